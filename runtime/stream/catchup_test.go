package stream

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/event"
)

// killed is a store as a kill leaves it: blocks with more messages than the index.
type killed struct {
	dir, msgs     string
	stale, proper []byte // the index as it stands there, and as the server writes it when it stops
	last          uint64
}

func kill(t *testing.T) killed {
	t.Helper()
	k := killed{dir: t.TempDir()}
	index := ""
	for run := range 3 {
		s, err := Start(Embedded{Dir: k.dir})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := s.Connect(t.Context(), "test")
		if err != nil {
			t.Fatal(err)
		}
		st, err := Create(t.Context(), conn, "shop", Settings{})
		if err != nil {
			t.Fatal(err)
		}
		if run > 0 {
			k.publish(t, st, run)
		}
		conn.Close()
		s.Stop()
		if run == 1 {
			k.msgs = filepath.Join(k.dir, "jetstream", "$G", "streams", "CDC_shop", "msgs")
			index = filepath.Join(k.msgs, "index.db")
			k.stale = read(t, index)
		}
	}
	k.proper = read(t, index)
	write(t, index, k.stale)
	return k
}

func (k *killed) publish(t *testing.T, st *Stream, run int) {
	t.Helper()
	end, err := st.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := st.Fence(t.Context(), end.Last, uint32(run), event.Group{K: 1, N: 1}, fmt.Sprint(run))
	if err != nil {
		t.Fatal(err)
	}
	c := st.Chain(id, id.Base, ChainOptions{})
	defer c.Close()
	data := bytes.Repeat([]byte("x"), 2000)
	for i := range 1500 { // some blocks
		p := event.Position{Commit: uint64(run), Change: uint64(i + 1)}
		m := &Outgoing{Subject: event.Subject("shop", event.Table{Schema: "public", Name: fmt.Sprint("t", run*i%3)}, i%8), ID: event.MessageID("shop", p), Group: event.Group{From: p, To: p, K: 1, N: 1}, Data: data}
		if _, err := c.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	k.last = c.Sent()
	if err := c.Wait(t.Context(), k.last); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// said collects what the server warns of.
type said struct {
	slog.Handler
	mu   *sync.Mutex
	text *strings.Builder
}

func (s said) Handle(_ context.Context, r slog.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool { s.text.WriteString(a.Value.String() + "\n"); return true })
	return nil
}

// The index that is brought up to date is the one that the server itself would have written.
func TestCatchUp(t *testing.T) {
	t.Parallel()
	k := kill(t)
	if bytes.Equal(k.stale, k.proper) {
		t.Fatal("the index is not stale")
	}
	index := filepath.Join(k.msgs, "index.db")
	decode := func(b []byte) *blockIndex {
		x, err := decodeIndex("CDC_shop", b)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(x.subjects, func(a, b subjectIndex) int { return strings.Compare(a.name, b.name) })
		x.bySubject = nil
		return x
	}
	want := decode(k.proper)
	if len(want.blocks) < 3 || len(want.subjects) < 20 {
		t.Errorf("only %d blocks, %d subjects", len(want.blocks), len(want.subjects))
	}
	compare := func() {
		t.Helper()
		catchUp(k.dir)
		if d := cmp.Diff(want, decode(read(t, index)), cmp.AllowUnexported(blockIndex{}, blockState{}, subjectIndex{})); d != "" {
			t.Error(d)
		}
	}
	compare()
	compare() // nothing was appended
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	compare()

	var mu sync.Mutex
	var text strings.Builder
	s, err := Start(Embedded{Dir: k.dir, Log: slog.New(said{slog.NewTextHandler(os.Stderr, nil), &mu, &text})})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	conn, err := s.Connect(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	st, err := Open(t.Context(), conn, "shop")
	if err != nil {
		t.Fatal(err)
	}
	if end, err := st.End(t.Context()); err != nil || end.Last != k.last || end.Messages != k.last || end.Deleted != 0 {
		t.Errorf("the stream ends at %+v, want %d (%v)", end, k.last, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(text.String(), "Stream state") {
		t.Errorf("the server does not take the index: %s", text.String())
	}
}

// What is not known for sure is left to the server.
func TestCatchUpLeavesAlone(t *testing.T) {
	t.Parallel()
	k := kill(t)
	index := filepath.Join(k.msgs, "index.db")
	blocks, err := filepath.Glob(filepath.Join(k.msgs, "*.blk"))
	if err != nil || len(blocks) < 3 {
		t.Fatal(blocks, err)
	}
	slices.SortFunc(blocks, func(a, b string) int { return len(a) - len(b) + strings.Compare(a, b) })
	first, second, newest := blocks[0], blocks[1], blocks[len(blocks)-1]
	young := read(t, second)
	whole := read(t, newest)
	oldest := read(t, first)
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	other := bytes.Clone(k.stale)
	other[1]++
	boot := read(t, filepath.Join(k.dir, "boot"))
	for _, c := range []struct {
		name       string
		do, undone func()
	}{
		{"Torn", func() { write(t, newest, whole[:len(whole)-5]) }, func() { write(t, newest, whole) }},
		{"Damaged", func() { write(t, newest, damaged) }, func() { write(t, newest, whole) }},
		{"Empty", func() { write(t, newest, nil) }, func() { write(t, newest, whole) }},
		{"BlockMissing", func() { _ = os.Rename(first, first+"x") }, func() { _ = os.Rename(first+"x", first) }},
		{"BlockShrunk", func() { write(t, first, oldest[:len(oldest)-500]) }, func() { write(t, first, oldest) }},
		{"BlockGrown", func() { write(t, second, append(bytes.Clone(young), young[:500]...)) }, func() { write(t, second, young) }},
		{"OtherVersion", func() { write(t, index, other) }, func() {}},
		{"OtherBoot", func() { write(t, filepath.Join(k.dir, "boot"), []byte("before")) }, func() {}},
		{"WrittenBeforeTheBoot", func() {
			write(t, filepath.Join(k.dir, "boot"), []byte("before"))
			catchUp(k.dir)
			if !bytes.Equal(read(t, filepath.Join(k.dir, "boot")), boot) {
				t.Error("the boot is not noted")
			}
		}, func() {}},
	} {
		c.do()
		before := read(t, index)
		catchUp(k.dir)
		if !bytes.Equal(read(t, index), before) {
			t.Errorf("%s: the index was written", c.name)
		}
		c.undone()
		write(t, index, k.stale)
		if err := os.Chtimes(index, time.Time{}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	catchUp(k.dir)
	if bytes.Equal(read(t, index), k.stale) {
		t.Error("nothing is brought up to date at all")
	}
}
