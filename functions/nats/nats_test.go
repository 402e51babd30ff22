package nats_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/functions/functiontest"
	natssink "github.com/runnel-dev/runnel/functions/nats"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var orders = event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "or.ders"}, []event.Column{
	{Name: "id", Type: "text", Key: 1}, {Name: "note", Type: "text"},
})

// start starts a nats-server with JetStream.
func start(t *testing.T, o server.Options) *server.Server {
	t.Helper()
	o.Host, o.JetStream, o.NoSigs, o.NoLog = "127.0.0.1", true, true, true
	if o.Port == 0 {
		o.Port = -1
	}
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("nats-server does not start")
	}
	return s
}

func add(t *testing.T, url string, c jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.CreateStream(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t *testing.T, c natssink.Config) *natssink.Sink {
	t.Helper()
	c.Function = "orders-fan"
	s, err := natssink.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// batch has an update of each row, in that order.
func batch(ids ...string) functions.Batch {
	span := functions.Span{Partition: 3}
	for n, id := range ids {
		after := fmt.Appendf(nil, `{"id":%q,"note":"%d"}`, id, n)
		span.Events = append(span.Events, event.Event{
			Op: event.Update, Source: "shop", Table: orders.Table, Schema: orders, Partition: 3, After: event.RowOf(after), Version: event.Version(n + 1),
			Line: fmt.Appendf(nil, `{"op":"u","after":%s}`, after),
		})
	}
	return functions.Batch{Function: "orders-fan", Generation: 7, Partitions: 8, Spans: []functions.Span{span}}
}

// stored are the messages of a stream.
func stored(t *testing.T, s jetstream.Stream) []*jetstream.RawStreamMsg {
	t.Helper()
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []*jetstream.RawStreamMsg
	for n := info.State.FirstSeq; n <= info.State.LastSeq && n > 0; n++ {
		m, err := s.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func class(err error) string {
	switch {
	case err == nil:
		return "done"
	case sink.IsHalt(err):
		return "halt"
	case sink.IsPermanent(err):
		return "permanent"
	}
	return "again"
}

// Each event is one message, as the source's stream has it, on a subject of its own; what is published twice is there once.
func TestRepublish(t *testing.T) {
	t.Parallel()
	url := start(t, server.Options{}).ClientURL()
	target := add(t, url, jetstream.StreamConfig{Name: "FAN", Subjects: []string{"fan.>"}})
	s := open(t, natssink.Config{URL: url, Subject: "fan.{source}.{schema}.{table}.{partition}.{op}.{id}", Stream: "FAN"})
	if err := s.Check(t.Context(), []*event.Schema{orders}); err != nil {
		t.Fatal(err)
	}
	b := batch("a", "b c.*", "a", "a")
	for range 2 {
		if err := s.Handle(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for n, m := range stored(t, target) {
		got = append(got, fmt.Sprintf("%s %s %s", m.Subject, m.Header.Get("Nats-Msg-Id"), m.Header.Get("Runnel-Version")))
		if string(m.Data) != string(b.Spans[0].Events[n].Line) {
			t.Errorf("got %s", m.Data)
		}
	}
	want := []string{
		"fan.shop.public.or%2Eders.3.u.a orders-fan:7:1 1", "fan.shop.public.or%2Eders.3.u.b%20c%2E%2A orders-fan:7:2 2",
		"fan.shop.public.or%2Eders.3.u.a orders-fan:7:3 3", "fan.shop.public.or%2Eders.3.u.a orders-fan:7:4 4",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	preview, err := s.Preview(t.Context(), batch("a"))
	if want := "PUB fan.shop.public.or%2Eders.3.u.a\nNats-Msg-Id: orders-fan:7:1\nRunnel-Version: 1\n\n" + `{"op":"u","after":{"id":"a","note":"0"}}` + "\n"; err != nil || string(preview) != want {
		t.Errorf("%v, the preview is %s", err, preview)
	}
}

// Where the stream knows the newer of two events of a row, and has forgotten the older one, the newer one still comes last.
func TestForgottenDuplicate(t *testing.T) {
	t.Parallel()
	url := start(t, server.Options{}).ClientURL()
	target := add(t, url, jetstream.StreamConfig{Name: "FAN", Subjects: []string{"fan"}})
	s := open(t, natssink.Config{URL: url, Subject: "fan"})
	b := batch("a", "b", "a", "a")
	newest := b
	newest.Spans = []functions.Span{{Events: b.Spans[0].Events[1:]}}
	if err := s.Handle(t.Context(), newest); err != nil { // all that the duplicate window knows
		t.Fatal(err)
	}
	again := open(t, natssink.Config{URL: url, Subject: "fan"})
	for range 2 {
		if err := again.Handle(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range stored(t, target) {
			got = append(got, m.Header.Get("Runnel-Version"))
		}
		if want := []string{"2", "3", "4", "1", "3", "4"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

// Thousands are published in one batch, those of a row in order.
func TestWindow(t *testing.T) {
	t.Parallel()
	url := start(t, server.Options{}).ClientURL()
	target := add(t, url, jetstream.StreamConfig{Name: "FAN", Subjects: []string{"fan"}})
	s := open(t, natssink.Config{URL: url, Subject: "fan"})
	var ids []string
	for n := range 3000 {
		ids = append(ids, fmt.Sprint(n%1100))
	}
	if err := s.Handle(t.Context(), batch(ids...)); err != nil {
		t.Fatal(err)
	}
	all := stored(t, target)
	last := map[string]int{}
	for _, m := range all {
		var line struct{ After struct{ ID, Note string } }
		if err := json.Unmarshal(m.Data, &line); err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscan(line.After.Note, &n); err != nil || n < last[line.After.ID] {
			t.Fatalf("%s after %d, %v", m.Data, last[line.After.ID], err)
		}
		last[line.After.ID] = n
	}
	if len(all) != 3000 {
		t.Errorf("%d messages", len(all))
	}
}

// What can never be stored is named alone; where the stream is missing, or another one, nothing is lost.
func TestFailures(t *testing.T) {
	t.Parallel()
	srv := start(t, server.Options{MaxPayload: 1000})
	url := srv.ClientURL()
	target := add(t, url, jetstream.StreamConfig{Name: "FAN", Subjects: []string{"fan.*"}, MaxMsgSize: 500})
	s := open(t, natssink.Config{URL: url, Subject: "fan.{op}"})
	for _, size := range []int{600, 2000} {
		before := len(stored(t, target))
		b := batch("a", strings.Repeat("x", size), "b", "a")
		b.Generation = int64(size)
		var partial *functions.BatchError
		err := s.Handle(t.Context(), b)
		if !errors.As(err, &partial) || len(partial.Failed) != 1 || partial.Failed[0].Event != 1 || class(partial.Failed[0].Err) != "permanent" {
			t.Errorf("%d bytes: got %v", size, err)
		}
		if got := len(stored(t, target)) - before; got != 3 {
			t.Errorf("%d bytes: %d of its neighbours are stored", size, got)
		}
	}
	for name, c := range map[string]struct {
		config natssink.Config
		check  string
		write  string
	}{
		"NoStream": {natssink.Config{Subject: "nobody.{table}"}, "halt nats: no stream takes nobody.or%2Eders: create one, such as with `nats stream add EVENTS --subjects \"nobody.*\"`", "again"},
		"Another":  {natssink.Config{Subject: "fan.{op}", Stream: "OTHER"}, "halt nats: stream FAN takes fan.c, and the target names OTHER: correct the stream, or the subject", "halt"},
		"Domain":   {natssink.Config{Subject: "fan.{op}", Domain: "elsewhere"}, "again", "done"}, // publishing needs no domain
	} {
		c.config.URL = url
		s := open(t, c.config)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := s.Check(ctx, []*event.Schema{orders}); class(err) != strings.Fields(c.check)[0] || !strings.Contains("halt "+fmt.Sprint(err), strings.TrimPrefix(c.check, "again")) {
			t.Errorf("%s: got %v, want %s", name, err, c.check)
		}
		if name == "Domain" {
			cancel()
			continue
		}
		err := s.Handle(ctx, batch("a", "b", "a"))
		var partial *functions.BatchError
		if !errors.As(err, &partial) || len(partial.Failed) != 3 || class(partial.Failed[0].Err) != c.write {
			t.Errorf("%s: got %v", name, err)
		}
		cancel()
	}
}

// Who may not connect, or not publish, is told so.
func TestPermissions(t *testing.T) {
	t.Parallel()
	srv := start(t, server.Options{Users: []*server.User{
		{Username: "all", Password: "all"},
		{Username: "some", Password: "some", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"fan.>"}}}},
	}})
	host := strings.TrimPrefix(srv.ClientURL(), "nats://")
	add(t, "nats://all:all@"+host, jetstream.StreamConfig{Name: "FAN", Subjects: []string{"fan.*"}})
	for _, c := range []struct{ user, password, want string }{
		{"all", "all", "done"}, {"all", "wrong", "check user, password, token, creds_file or nkey_file"}, {"some", "some", "give the account this permission"},
	} {
		s := open(t, natssink.Config{URL: "nats://" + host, User: c.user, Password: c.password, Subject: "fan.{op}"})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if err := s.Handle(ctx, batch("a")); class(err) != "done" && (class(err) != "halt" || !strings.Contains(err.Error(), c.want)) || class(err) == "done" && c.want != "done" {
			t.Errorf("%s %s: got %v", c.user, c.password, err)
		}
		cancel()
	}
	for _, c := range []natssink.Config{{}, {URL: "nats://" + host, CredsFile: "none"}, {URL: "nats://" + host, NKeyFile: "none"}, {URL: "nats://" + host, CAFile: "none"}} {
		s, err := natssink.New(c)
		if err == nil {
			if err = s.Check(t.Context(), nil); err == nil {
				t.Errorf("%+v was accepted", c)
			}
			s.Close()
		}
	}
}

// A server that goes away and comes back is met again.
func TestServerAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := start(t, server.Options{StoreDir: dir})
	url, port := srv.ClientURL(), srv.Addr().String()
	target := add(t, url, jetstream.StreamConfig{Name: "FAN", Subjects: []string{"fan"}})
	s := open(t, natssink.Config{URL: url, Subject: "fan"})
	if err := s.Handle(t.Context(), batch("a")); err != nil {
		t.Fatal(err)
	}
	srv.Shutdown()
	srv.WaitForShutdown()
	write := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return s.Handle(ctx, batch("a", "b", "a"))
	}
	if err := write(); class(err) != "again" {
		t.Errorf("got %v", err)
	}
	var number int
	if _, err := fmt.Sscan(port[strings.LastIndexByte(port, ':')+1:], &number); err != nil {
		t.Fatal(err)
	}
	start(t, server.Options{StoreDir: dir, Port: number})
	for end := time.Now().Add(time.Minute); ; {
		err := write()
		if err == nil {
			break
		}
		if class(err) != "again" || time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if all := stored(t, target); len(all) < 3 || !strings.Contains(string(all[len(all)-1].Data), `"note":"2"`) {
		t.Errorf("%d messages", len(all))
	}
}

// Whoever keeps the newest version of each row has the source's table in the end, whatever comes twice, late or in other batches.
func TestConformance(t *testing.T) {
	url := start(t, server.Options{}).ClientURL()
	target := add(t, url, jetstream.StreamConfig{Name: "FAN", Subjects: []string{"fan.>"}, Storage: jetstream.MemoryStorage})
	functiontest.Suite{
		Handler: func(_ context.Context, f functions.Function) (functions.Handler, error) {
			return natssink.New(natssink.Config{Function: f.Name, URL: url, Subject: "fan.{table}"})
		},
		Target:    functiontest.TargetFunc(func(ctx context.Context) ([]string, error) { return fold(ctx, target) }),
		Histories: 15,
	}.Run(t)
}

// fold is the newest version of each row of a stream.
func fold(ctx context.Context, s jetstream.Stream) ([]string, error) {
	info, err := s.Info(ctx)
	if err != nil {
		return nil, err
	}
	rows, versions := map[string]string{}, map[string]int64{}
	for n := info.State.FirstSeq; n <= info.State.LastSeq && n > 0; n++ {
		m, err := s.GetMsg(ctx, n)
		if err != nil {
			return nil, err
		}
		var line struct {
			Op            string
			Before, After json.RawMessage
		}
		var version int64
		if err := json.Unmarshal(m.Data, &line); err != nil {
			return nil, err
		}
		if _, err := fmt.Sscan(m.Header.Get("Runnel-Version"), &version); err != nil {
			return nil, err
		}
		row := line.After
		if line.Op == "d" {
			row = line.Before
		}
		var key struct{ ID json.RawMessage }
		if err := json.Unmarshal(row, &key); err != nil {
			return nil, err
		}
		if version < versions[string(key.ID)] {
			continue
		}
		versions[string(key.ID)] = version
		if rows[string(key.ID)] = string(line.After); line.Op == "d" {
			delete(rows, string(key.ID))
		}
	}
	var all []string
	for _, row := range rows {
		all = append(all, row)
	}
	return all, nil
}
