package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

func TestSlowest(t *testing.T) {
	t.Parallel()
	at := func(sequences ...uint64) map[int]registry.Owner {
		owners := map[int]registry.Owner{}
		for p, s := range sequences {
			owners[p] = registry.Owner{Floor: sink.Point{Sequence: s}}
		}
		return owners
	}
	from := func(sequence uint64) registry.FunctionRecord {
		return registry.FunctionRecord{Start: sink.Point{Sequence: sequence}}
	}
	end := stream.End{First: 101, Last: 200, Bytes: 1000, MaxBytes: 1500}
	for name, c := range map[string]struct {
		end     stream.End
		working []floors
		want    capture.Backlog
	}{
		"Nobody":     {end, nil, capture.Backlog{Limit: 1500}},
		"Done":       {end, []floors{{"a", from(0), false, at(200, 200)}}, capture.Backlog{Limit: 1500}},
		"Slowest":    {end, []floors{{"a", from(0), false, at(200, 190)}, {"b", from(0), false, at(140, 200)}}, capture.Backlog{Function: "b", Unread: 600, Limit: 1500}},
		"NotBegun":   {end, []floors{{"a", from(150), false, nil}}, capture.Backlog{Function: "a", Unread: 500, Limit: 1500}},
		"OneUnowned": {end, []floors{{"a", from(110), false, at(200)}}, capture.Backlog{Function: "a", Unread: 900, Limit: 1500}},
		"Retention":  {end, []floors{{"a", from(0), false, at(20, 200)}}, capture.Backlog{Function: "a", Unread: 1000, Limit: 1500}},
		"Empty":      {stream.End{First: 201, Last: 200, MaxBytes: 1500}, []floors{{"a", from(0), false, nil}}, capture.Backlog{Limit: 1500}},
		"Unlimited":  {stream.End{First: 1, Last: 10, Bytes: 100, MaxBytes: -1}, []floors{{"a", from(0), false, nil}}, capture.Backlog{Function: "a", Unread: 100}},
		"One":        {end, []floors{{"a", from(0), true, at(150)}}, capture.Backlog{Function: "a", Unread: 500, Limit: 1500}},
		"Ahead":      {end, []floors{{"a", from(0), false, at(300, 300)}}, capture.Backlog{Limit: 1500}},
	} {
		if d := cmp.Diff(c.want, slowest(c.end, 2, c.working)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	workers := []registry.Named[registry.Worker]{
		{Record: registry.Worker{Status: map[string]registry.FunctionStatus{"a": {}, "b": {Stalled: true}}}},
	}
	if stalled(workers, "a") || !stalled(workers, "b") || stalled(workers, "c") {
		t.Error("b alone is stalled")
	}
}
