package registry_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// The records are stored formats: what one version wrote, the next one reads.
func TestRecords(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC)
	for name, record := range map[string]any{
		"source": &registry.SourceRecord{Spec: "kind: source\nname: shop\n", State: registry.Halted, Reason: "gap: the slot is gone", Updated: at},
		"function": &registry.FunctionRecord{Spec: "kind: function\nname: search\n", Version: 3, Generation: 1770091506,
			Start: sink.Point{Sequence: 1024, Version: 783413925200035328}, State: registry.Running, Workers: 2, Updated: at},
		"copy": &registry.FunctionRecord{Spec: "kind: function\nname: search-copy\n", Version: 1, Generation: 1770091506, Start: sink.Point{Sequence: 1024, Version: 783413925200035328},
			State: registry.Running, Copy: &registry.Copy{Of: "search", Into: "{table}_v2", Whole: true}, Updated: at},
		"swap": &registry.FunctionRecord{Spec: "kind: function\nname: search\n", Version: 3, Generation: 1770091507, Start: sink.Point{Sequence: 1024, Version: 783413925200035328},
			State: registry.Running, Waits: true, Replaces: &registry.Replaced{Generation: 1770091506},
			Swap: &registry.Swap{Copy: "search-copy", Generation: 1770091506, Into: "{table}_v2", Marked: true, Marks: []string{"16385"}}, Updated: at},
		"capture": &registry.Capture{
			Position: "1@0/16B3748:0/16B3700:0", First: "1@0/1500000", Change: "1@0/16B3748:0/16B3700:0", Identity: "7457392837465", Slot: "runnel_shop", Epoch: 91201603,
			Base: 512, Sequence: 700, Version: 783415802914635776, Group: "1@0/16B3748:0/16B3700:0;1@0/16B3748:0/16B3748:0;1/1",
			Load: registry.Load{ID: "91201603", Sequence: 512, Sweep: true, Done: true},
		},
		"owner":    &registry.Owner{Instance: "34c5218622fa8bc0", Turn: 2, Floor: sink.Point{Sequence: 3000, Version: 783415802917183488}},
		"released": &registry.Owner{Turn: 3, Floor: sink.Point{Sequence: 3000, Version: 783415802917183488}},
		"worker": &registry.Worker{Host: "db1", PID: 4711, Space: "b1/4026531836", Started: at, Functions: []string{"search"},
			Labels: map[string]string{"zone": "eu"}, Leaving: true, Owns: map[string][]int{"search.1770091506": {0, 3}}, Status: map[string]registry.FunctionStatus{
				"search": {Partitions: []int{0, 3}, Stalled: true, LastError: "connection refused", Rate: 12.5, Backlog: 100, LagSeconds: 2.25},
			}},
	} {
		b, err := json.MarshalIndent(record, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "testdata/records/"+name+".json", string(b)+"\n")
		back := reflect.New(reflect.TypeOf(record).Elem()).Interface()
		if err := json.Unmarshal(b, back); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(record, back); d != "" {
			t.Errorf("%s: round trip (-want +got):\n%s", name, d)
		}
	}
}
