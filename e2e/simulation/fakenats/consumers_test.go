package fakenats_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// private is the configuration that workers give their consumers.
func private(name string, from int, more string) string {
	return fmt.Sprintf(`{"stream_name":"S","action":"create","config":{"name":%q,"deliver_policy":"by_start_sequence","opt_start_seq":%d,`+
		`"ack_policy":"all","ack_wait":86400000000000,"max_ack_pending":-1,"replay_policy":"instant","inactive_threshold":30000000000,`+
		`"num_replicas":1,"mem_storage":true%s}}`, name, from, more)
}

func (k *talk) consumer(stream, name string, from int, more string) {
	body := strings.Replace(private(name, from, more), `"S"`, `"`+stream+`"`, 1)
	k.say(1, api+"CONSUMER.CREATE."+stream+"."+name, body)
}

func (k *talk) next(expect int, stream, name, body string) {
	k.say(expect, api+"CONSUMER.MSG.NEXT."+stream+"."+name, body)
}

// ack acknowledges as of a delivery.
func (k *talk) ack(stream, consumer string, sseq, dseq int) {
	k.say(1, fmt.Sprintf("$JS.ACK.%s.%s.1.%d.%d.1700000000000000000.0", stream, consumer, sseq, dseq), "+ACK")
}

func (k *talk) consumerInfo(stream, name string) {
	k.say(1, api+"CONSUMER.INFO."+stream+"."+name, "")
}

func seconds(n float64) int64 { return int64(n * float64(time.Second)) }

func init() {
	conversations = append(conversations,
		conversation{"Pull", func(k *talk) {
			k.create("CP", "")
			k.consumerInfo("CP", "none")
			k.next(1, "CP", "none", `1`)
			k.say(1, api+"CONSUMER.DELETE.CP.none", "")
			k.consumerInfo("NOSTREAM", "none")
			k.consumer("CP", "one", 1, "")
			k.consumer("CP", "one", 1, "")
			k.consumer("CP", "one", 2, "")
			k.next(1, "CP", "one", `{"batch":1,"no_wait":true}`)
			k.next(1, "CP", "one", `{"batch":1,"expires":100000000}`)
			k.fill("cp.a", 5)
			k.consumerInfo("CP", "one")
			k.next(1, "CP", "one", ``)
			k.next(2, "CP", "one", `2`)
			k.next(3, "CP", "one", fmt.Sprintf(`{"batch":10,"expires":%d}`, seconds(0.2)))
			k.consumerInfo("CP", "one")
			k.ack("CP", "one", 2, 2)
			k.consumerInfo("CP", "one")
			k.ack("CP", "one", 1, 1)
			k.say(0, "$JS.ACK.CP.one.1.9.9.1700000000000000000.0", "+ACK")
			k.silence()
			k.consumerInfo("CP", "one")
			k.ack("CP", "one", 5, 5)
			k.consumerInfo("CP", "one")
			k.next(1, "CP", "one", fmt.Sprintf(`{"batch":10,"expires":%d,"idle_heartbeat":%d}`, seconds(1), seconds(0.6)))
			k.next(2, "CP", "one", fmt.Sprintf(`{"batch":10,"expires":%d,"idle_heartbeat":%d}`, seconds(1), seconds(0.4)))
			k.hear(1)
			k.next(0, "CP", "one", fmt.Sprintf(`{"batch":2,"expires":%d}`, seconds(20)))
			k.say(2, "cp.b", "for one", "H", "v")
			k.say(1, api+"CONSUMER.NAMES.CP", "")
			k.say(2, api+"CONSUMER.DELETE.CP.one", "") // the answer, and the end of the request: in any order
			slices.Sort(k.lines[len(k.lines)-2:])
			k.next(1, "CP", "one", `1`)
			k.ack("CP", "one", 5, 5)
			k.silence()
		}},
		conversation{"Bytes", func(k *talk) {
			k.create("CB", "")
			for i := range 6 {
				k.say(1, "cb.a", strings.Repeat("x", 100*(i%3+1)))
			}
			k.consumer("CB", "b", 1, "")
			k.next(1, "CB", "b", fmt.Sprintf(`{"batch":10,"max_bytes":50,"expires":%d}`, seconds(5)))
			k.next(2, "CB", "b", fmt.Sprintf(`{"batch":10,"max_bytes":200,"expires":%d}`, seconds(5)))
			k.next(2, "CB", "b", fmt.Sprintf(`{"batch":1,"max_bytes":900,"expires":%d}`, seconds(5)))
			k.next(4, "CB", "b", fmt.Sprintf(`{"batch":3,"max_bytes":100000,"expires":%d}`, seconds(5)))
			k.next(2, "CB", "b", fmt.Sprintf(`{"batch":3,"max_bytes":100000,"expires":%d}`, seconds(0.2)))
			k.next(1, "CB", "b", fmt.Sprintf(`{"batch":1,"expires":%d,"idle_heartbeat":%d}`, seconds(1), seconds(0.7)))
			k.silence()
		}},
		conversation{"Filters", func(k *talk) {
			k.create("CF", "")
			for i := range 9 {
				k.say(1, fmt.Sprintf("cf.t%d.%d", i%3, i%2), fmt.Sprint(i))
			}
			k.consumer("CF", "exact", 1, `,"filter_subject":"cf.t1.1"`)
			k.consumer("CF", "wild", 1, `,"filter_subject":"cf.*.1"`)
			k.consumer("CF", "late", 5, `,"filter_subject":"cf.*.1"`)
			k.consumer("CF", "beyond", 20, `,"filter_subject":"cf.*.1"`)
			k.consumer("CF", "two", 1, `,"filter_subjects":["cf.t1.*","cf.t2.*"]`)
			for _, name := range []string{"exact", "wild", "late", "beyond", "two"} {
				k.consumerInfo("CF", name)
			}
			k.next(3, "CF", "exact", fmt.Sprintf(`{"batch":3,"expires":%d}`, seconds(0.1)))
			k.next(5, "CF", "wild", fmt.Sprintf(`{"batch":9,"expires":%d}`, seconds(0.1)))
			k.next(3, "CF", "late", fmt.Sprintf(`{"batch":9,"expires":%d}`, seconds(0.1)))
			k.next(7, "CF", "two", fmt.Sprintf(`{"batch":9,"expires":%d}`, seconds(0.1)))
			k.next(1, "CF", "beyond", fmt.Sprintf(`{"batch":9,"expires":%d}`, seconds(0.1)))
			for i := range 12 {
				k.say(1, "cf.t1.1", fmt.Sprint(i))
			}
			k.next(2, "CF", "beyond", fmt.Sprintf(`{"batch":9,"expires":%d}`, seconds(0.1)))
			k.hear(1)
			for _, name := range []string{"exact", "wild", "late", "beyond", "two"} {
				k.consumerInfo("CF", name)
			}
		}},
		conversation{"Retention", func(k *talk) {
			k.create("CR", `,"max_msgs":5`)
			k.fill("cr.a", 8)
			k.consumer("CR", "early", 1, "")
			k.consumerInfo("CR", "early")
			k.next(1, "CR", "early", `1`)
			// What retention takes from a consumer that stands, the real server counts a moment later: its answers differ from time to time.
			k.say(1, api+"STREAM.PURGE.CR", "")
			k.consumerInfo("CR", "early")
			k.consumer("CR", "empty", 1, "")
			k.consumer("CR", "future", 100, "")
			k.fill("cr.a", 1)
			k.next(1, "CR", "empty", `1`)
			k.next(1, "CR", "future", fmt.Sprintf(`{"batch":9,"expires":%d}`, seconds(0.1)))
		}},
		conversation{"LastPerSubject", func(k *talk) {
			k.create("CL", `,"max_msgs_per_subject":3`)
			for i := range 9 {
				k.say(1, fmt.Sprintf("cl.%d", i%3), fmt.Sprint(i))
			}
			ordered := func(stream, name, filter string) {
				k.say(1, api+"CONSUMER.CREATE."+stream+"."+name+"."+filter, fmt.Sprintf(`{"stream_name":%q,"action":"","config":{"name":%q,`+
					`"deliver_policy":"last_per_subject","ack_policy":"none","replay_policy":"instant","inactive_threshold":300000000000,`+
					`"num_replicas":1,"mem_storage":true,"filter_subject":%q}}`, stream, name, filter))
			}
			ordered("CL", "all", "cl.>")
			ordered("CL", "none", "cl.x")
			k.say(1, "cl.1", "newer")
			k.next(5, "CL", "all", fmt.Sprintf(`{"batch":9,"expires":%d}`, seconds(0.1)))
			k.say(1, "cl.x", "new")
			k.next(2, "CL", "none", fmt.Sprintf(`{"batch":9,"expires":%d}`, seconds(0.1)))
			k.create("CM", `,"max_msgs_per_subject":1`)
			for i := range 9 {
				k.say(1, fmt.Sprintf("cm.%d", i%3), fmt.Sprint(i))
			}
			ordered("CM", "all", "cm.>")
			k.next(4, "CM", "all", fmt.Sprintf(`{"batch":9,"expires":%d}`, seconds(0.1)))
		}},
		conversation{"Inactive", func(k *talk) {
			k.create("CI", "")
			k.fill("ci.a", 3)
			for _, name := range []string{"unused", "used", "acked", "unacked"} {
				body := strings.Replace(private(name, 1, ""), "30000000000", "1000000000", 1)
				k.say(1, api+"CONSUMER.CREATE.CI."+name, strings.Replace(body, `"S"`, `"CI"`, 1))
			}
			k.next(2, "CI", "acked", `2`)
			k.ack("CI", "acked", 2, 2)
			k.next(2, "CI", "unacked", `2`)
			k.pause(700 * time.Millisecond)
			k.next(3, "CI", "used", fmt.Sprintf(`{"batch":3,"expires":%d}`, seconds(5)))
			k.ack("CI", "used", 3, 3)
			k.say(1, api+"CONSUMER.NAMES.CI", "")
			k.pause(2 * time.Second)
			k.say(1, api+"CONSUMER.NAMES.CI", "")
		}},
		conversation{"Push", func(k *talk) {
			k.create("CQ", "")
			k.fill("cq.a", 3)
			sub, err := k.nc.SubscribeSync(k.prefix + "push") // the server does not see interest by wildcards
			if err != nil {
				k.Fatal(err)
			}
			pushed := func(n int) {
				for range n {
					m, err := sub.NextMsg(5 * time.Second)
					if err != nil {
						k.Fatal(err)
					}
					k.note(k.show(m))
				}
			}
			k.say(1, api+"CONSUMER.CREATE.CQ.push", fmt.Sprintf(`{"stream_name":"CQ","action":"create","config":{"name":"push",`+
				`"deliver_policy":"all","ack_policy":"none","max_deliver":1,"replay_policy":"instant","num_replicas":1,"mem_storage":true,`+
				`"deliver_subject":"%spush","flow_control":true,"idle_heartbeat":%d}}`, k.prefix, seconds(0.3)))
			pushed(4)
			k.say(1, "cq.a", "later")
			pushed(2)
			k.next(1, "CQ", "push", `1`)
			k.say(1, api+"CONSUMER.DELETE.CQ.push", "")
		}},
		conversation{"Objects", func(k *talk) {
			js, err := jetstream.New(k.nc)
			if err != nil {
				k.Fatal(err)
			}
			store, err := js.CreateObjectStore(k.Context(), jetstream.ObjectStoreConfig{Bucket: "large"})
			if err != nil {
				k.Fatal(err)
			}
			for n := range 3 {
				data := []byte(strings.Repeat(fmt.Sprint(n), 3<<20))
				info, err := store.PutBytes(k.Context(), "payload", data)
				if err != nil {
					k.Fatal(err)
				}
				k.note(fmt.Sprint(info.Size, info.Chunks, info.Digest))
				got, err := store.GetBytes(k.Context(), "payload")
				k.note(fmt.Sprint(len(got), string(got) == string(data), err))
			}
			_, err = store.GetBytes(k.Context(), "nothing")
			k.note(fmt.Sprint(err))
			if err := store.Delete(k.Context(), "payload"); err != nil {
				k.Fatal(err)
			}
			_, err = store.GetBytes(k.Context(), "payload")
			k.note(fmt.Sprint(err))
			m, err := k.nc.Request(api+"STREAM.INFO.OBJ_large", nil, 5*time.Second)
			if err != nil {
				k.Fatal(err)
			}
			k.note(k.show(&nats.Msg{Subject: "_INBOX", Data: m.Data}))
		}},
	)
}
