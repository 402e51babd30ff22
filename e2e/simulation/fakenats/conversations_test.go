package fakenats_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/runtime/stream"
)

const (
	api  = "$JS.API."
	last = "Nats-Expected-Last-Sequence"
	id   = "Nats-Msg-Id"
)

func (k *talk) create(name, more string) {
	k.say(1, api+"STREAM.CREATE."+name, fmt.Sprintf(`{"name":%q,"subjects":["%s.>"],"storage":"file"%s}`, name, strings.ToLower(name), more))
}

func (k *talk) fill(subject string, n int) {
	for i := range n {
		k.say(1, subject, fmt.Sprint("message ", i))
	}
}

func (k *talk) info(stream string) { k.say(1, api+"STREAM.INFO."+stream, "") }

var conversations = []conversation{
	{"Streams", func(k *talk) {
		k.info("A")
		k.say(1, api+"STREAM.MSG.GET.A", `{"seq":1}`)
		k.create("A", "")
		k.create("A", "")
		k.create("A", `,"max_age":1000000000000`)
		k.say(1, api+"STREAM.CREATE.B", `{"name":"B","subjects":["a.b.c"],"storage":"file"}`)
		k.say(1, api+"STREAM.CREATE.B", `{"name":"C","subjects":["b"],"storage":"file"}`)
		k.info("A")
		k.say(1, api+"STREAM.UPDATE.A", `{"name":"A","subjects":["a.>"],"storage":"file","max_age":3600000000000,"max_bytes":4096}`)
		k.say(1, api+"STREAM.UPDATE.A", `{"name":"A","subjects":["a.>"],"storage":"memory"}`)
		k.say(1, api+"STREAM.UPDATE.Z", `{"name":"Z","subjects":["z.>"],"storage":"file"}`)
		k.say(1, api+"STREAM.NAMES", ``)
		k.say(1, api+"STREAM.NAMES", `{"subject":"a.b"}`)
		k.say(1, api+"STREAM.NAMES", `{"subject":"x.b"}`)
		k.say(1, api+"STREAM.DELETE.A", "")
		k.say(1, api+"STREAM.DELETE.A", "")
		k.say(1, "a.b", "gone")
	}},
	{"Publish", func(k *talk) {
		k.create("P", `,"duplicate_window":200000000`)
		k.say(1, "p.a", "one", last, "0")
		k.say(1, "p.a", "two", last, "0")
		k.say(1, "p.a", "two", last, "7")
		k.say(1, "p.a", "two", last, "1", id, "x")
		k.say(1, "p.a", "two", last, "1", id, "x")
		k.say(1, "p.a", "two", last, "2", id, "x")
		k.say(1, "p.a", "two", id, "x")
		k.pause(400 * time.Millisecond)
		k.say(1, "p.a", "two", id, "x")
		k.say(1, "p.a", "", "Nats-Expected-Stream", "Q")
		k.say(1, "p.a", "", "Nats-Expected-Stream", "P")
		k.say(1, "p.a", "ttl", "Nats-TTL", "1s")
		k.say(1, "p.b", "", "Nats-Expected-Last-Subject-Sequence", "0")
		k.say(1, "p.b", "", "Nats-Expected-Last-Subject-Sequence", "0")
		k.say(1, "p.b", "", "Nats-Expected-Last-Subject-Sequence", "5")
		k.say(1, "p.b", "", "Nats-Expected-Last-Subject-Sequence", "1")
		k.say(1, "p.b", "", "Nats-Expected-Last-Subject-Sequence", "3", "Nats-Expected-Last-Subject-Sequence-Subject", "p.a")
		k.say(1, "p.b", "", "Nats-Expected-Last-Subject-Sequence", "4", "Nats-Expected-Last-Subject-Sequence-Subject", "p.a")
		k.say(1, "p.a", "roll", "Nats-Rollup", "sub")
		k.say(1, "nobody.listens", "")
		k.info("P")
	}},
	{"Batches", func(k *talk) {
		k.create("BA", `,"allow_atomic":true,"duplicate_window":120000000000`)
		k.create("BN", "")
		batch := func(expect int, stream, name string, n int, more ...string) {
			k.say(expect, stream, "in "+name, append([]string{"Nats-Batch-Id", name, "Nats-Batch-Sequence", fmt.Sprint(n)}, more...)...)
		}
		batch(1, "bn.x", "off", 1)
		batch(1, "ba.x", "one", 1, last, "0")
		batch(1, "ba.x", "one", 2)
		k.info("BA")
		batch(1, "ba.y", "one", 3, "Nats-Batch-Commit", "1")
		k.info("BA")
		batch(1, "ba.x", "hole", 1)
		batch(1, "ba.x", "hole", 3)
		batch(1, "ba.x", "hole", 4, "Nats-Batch-Commit", "1")
		batch(1, "ba.x", "wrong", 1, last, "1")
		batch(1, "ba.x", "wrong", 2, "Nats-Batch-Commit", "1")
		batch(1, "ba.x", "second", 1)
		batch(1, "ba.x", "second", 2, last, "4", "Nats-Batch-Commit", "1")
		batch(1, "ba.x", "second wrong", 1)
		batch(1, "ba.x", "second wrong", 2, last, "9", "Nats-Batch-Commit", "1")
		batch(1, "ba.x", "commit", 1, "Nats-Batch-Commit", "2")
		batch(1, "ba.x", "late", 2, "Nats-Batch-Commit", "1")
		k.say(1, "ba.x", "no number", "Nats-Batch-Id", "numberless")
		batch(1, "ba.x", strings.Repeat("x", 65), 1)
		batch(1, "ba.x", "ids", 1, id, "i1", last, "3")
		batch(1, "ba.x", "ids", 2, id, "i2", "Nats-Batch-Commit", "1")
		batch(1, "ba.x", "again", 1, id, "i3")
		batch(1, "ba.x", "again", 2, id, "i2", "Nats-Batch-Commit", "1")
		batch(1, "ba.x", "twice", 1, id, "i4")
		batch(1, "ba.x", "twice", 2, id, "i4", "Nats-Batch-Commit", "1")
		batch(1, "ba.x", "moved", 1, last, "5")
		k.say(1, "ba.z", "between")
		batch(1, "ba.x", "moved", 2, "Nats-Batch-Commit", "1")
		batch(1, "ba.x", "too many", 1001)
		k.say(1, api+"STREAM.MSG.GET.BA", `{"last_by_subj":"ba.x"}`)
		k.info("BA")
	}},
	{"Get", func(k *talk) {
		k.create("G", "")
		k.say(1, api+"STREAM.MSG.GET.G", `{"last_by_subj":">"}`)
		for _, s := range []string{"g.a", "g.b.c", "g.a", "g.d.c"} {
			k.say(1, s, "in "+s, "Header", "of "+s)
		}
		for _, q := range []string{
			`{"seq":1}`, `{"seq":4}`, `{"seq":5}`, `{"last_by_subj":">"}`, `{"last_by_subj":"g.a"}`, `{"last_by_subj":"g.*.c"}`,
			`{"last_by_subj":"g.x"}`, `{"next_by_subj":"g.*.c","seq":1}`, `{"next_by_subj":"g.*.c","seq":3}`, `{"next_by_subj":"g.a","seq":2}`,
			`{"next_by_subj":"g.a","seq":4}`, `{"next_by_subj":"g.>"}`, `{"seq":1,"last_by_subj":"g.a"}`, `{}`,
			`{"next_by_subj":"g.a","last_by_subj":"g.a"}`,
		} {
			k.say(1, api+"STREAM.MSG.GET.G", q)
		}
		k.say(1, api+"STREAM.MSG.DELETE.G", `{"seq":2}`)
		k.say(1, api+"STREAM.MSG.DELETE.G", `{"seq":2}`)
		k.say(1, api+"STREAM.MSG.GET.G", `{"seq":2}`)
		k.say(1, api+"STREAM.MSG.GET.G", `{"next_by_subj":">","seq":2}`)
		k.info("G")
		k.say(1, api+"STREAM.INFO.G", `{"subjects_filter":"g.>"}`)
		k.say(1, api+"STREAM.INFO.G", `{"subjects_filter":"g.*.c"}`)
		k.say(1, api+"STREAM.INFO.G", `{"subjects_filter":"x"}`)
		k.say(1, api+"STREAM.MSG.DELETE.G", `{"seq":4}`)
		k.say(1, api+"STREAM.MSG.GET.G", `{"last_by_subj":">"}`)
		k.info("G")
		k.say(0, api+"DIRECT.GET.G", `{"seq":1}`)
		k.silence()
		k.create("D", `,"allow_direct":true`)
		k.fill("d.a.b", 2)
		k.say(1, "d.a.b", "with", "Header", "one")
		k.say(1, api+"DIRECT.GET.D", `{"seq":1}`)
		k.say(1, api+"DIRECT.GET.D", `{"last_by_subj":"d.a.b"}`)
		k.say(1, api+"DIRECT.GET.D.d.a.b", ``)
		k.say(1, api+"DIRECT.GET.D.d.a", ``)
		k.say(1, api+"DIRECT.GET.D", `{}`)
		k.say(1, api+"DIRECT.GET.D", ``)
	}},
	{"Limits", func(k *talk) {
		k.create("LM", `,"max_msgs":3`)
		k.fill("lm.a", 5)
		k.info("LM")
		k.create("LB", `,"max_bytes":300`)
		k.fill("lb.a", 12)
		k.info("LB")
		k.create("LN", `,"max_msgs":2,"discard":"new"`)
		k.fill("ln.a", 3)
		k.info("LN")
		k.create("LX", `,"max_bytes":150,"discard":"new"`)
		k.fill("lx.a", 5)
		k.info("LX")
		k.create("LS", `,"max_msgs_per_subject":1,"discard":"new","max_msgs":2`)
		k.fill("ls.a", 3)
		k.fill("ls.b", 3)
		k.fill("ls.c", 1)
		k.info("LS")
		k.create("LZ", `,"max_msg_size":10`)
		k.say(1, "lz.a", "0123456789")
		k.say(1, "lz.a", "0123456789a")
		k.create("LT", `,"max_age":500000000,"duplicate_window":200000000`)
		k.fill("lt.a", 2)
		k.pause(1500 * time.Millisecond)
		k.info("LT")
		k.say(1, api+"STREAM.MSG.GET.LT", `{"last_by_subj":">"}`)
		k.say(1, "lt.a", "", last, "2")
	}},
	{"Purge", func(k *talk) {
		k.create("PU", "")
		k.fill("pu.a", 3)
		k.fill("pu.b", 3)
		k.say(1, api+"STREAM.PURGE.PU", `{"filter":"pu.a"}`)
		k.info("PU")
		k.say(1, api+"STREAM.PURGE.PU", `{"keep":1}`)
		k.info("PU")
		k.say(1, api+"STREAM.PURGE.PU", ``)
		k.info("PU")
		k.fill("pu.a", 1)
		k.create("PD", `,"deny_delete":true,"deny_purge":true`)
		k.fill("pd.a", 1)
		k.say(1, api+"STREAM.PURGE.PD", ``)
		k.say(1, api+"STREAM.MSG.DELETE.PD", `{"seq":1}`)
		k.create("PR", `,"allow_rollup_hdrs":true`)
		k.fill("pr.a", 3)
		k.fill("pr.b", 2)
		k.say(1, "pr.a", "all of a", "Nats-Rollup", "sub")
		k.info("PR")
		k.say(1, "pr.c", "all", "Nats-Rollup", "all")
		k.info("PR")
	}},
	{"Core", func(k *talk) {
		sub, err := k.nc.SubscribeSync("core.*.x")
		if err != nil {
			k.Fatal(err)
		}
		if err := sub.AutoUnsubscribe(2); err != nil {
			k.Fatal(err)
		}
		for range 3 {
			k.say(0, "core.a.x", "hello", "H", "v")
		}
		for range 2 {
			m, err := sub.NextMsg(5 * time.Second)
			if err != nil {
				k.Fatal(err)
			}
			k.note(k.show(m))
		}
		k.hear(1)
		k.silence()
	}},
	{"Buckets", func(k *talk) {
		b, err := stream.OpenBucket(k.Context(), k.conn, stream.BucketConfig{Name: "conformance", History: 3})
		if err != nil {
			k.Fatal(err)
		}
		k.info("KV_conformance")
		note := func(v any, err error) {
			switch {
			case errors.Is(err, stream.ErrConflict):
				err = stream.ErrConflict
			case errors.Is(err, stream.ErrNotFound):
				err = stream.ErrNotFound
			}
			if e, ok := v.(stream.Entry); ok {
				e.Created = time.Time{}
				v = e
			}
			k.note(fmt.Sprintf("%+v %v", v, err))
		}
		put := func(key, value string) {
			n, err := b.Put(k.Context(), key, []byte(value))
			note(n, err)
		}
		swap := func(key, value string, revision uint64) {
			n, err := b.Swap(k.Context(), key, []byte(value), revision)
			note(n, err)
		}
		get := func(key string) {
			e, err := b.Get(k.Context(), key)
			note(e, err)
		}
		get("a")
		swap("a", "1", 0)
		swap("a", "2", 0)
		swap("a", "2", 1)
		put("b", "3")
		get("a")
		note(nil, b.Delete(k.Context(), "a", 7))
		note(nil, b.Delete(k.Context(), "a", 2))
		get("a")
		swap("a", "again", 0)
		swap("a", "again", 4)
		for i := range 4 {
			put("b", fmt.Sprint(i))
		}
		all, err := b.All(k.Context(), ">")
		for _, e := range all {
			note(e, err)
		}
		history, err := b.History(k.Context(), "b")
		for _, e := range history {
			note(e, err)
		}
		k.info("KV_conformance")
	}},
}
