package main

import (
	"testing"

	"github.com/runnel-dev/runnel/runtime/registry"
)

// Why nobody hosts a function says what to start.
func TestUnhosted(t *testing.T) {
	t.Parallel()
	const own, known = "handler: cache\n", "to: {http: {url: \"http://hook\"}}\n"
	for name, c := range map[string]struct {
		spec    string
		workers []registry.Worker
		want    string
	}{
		"Nobody":     {known, nil, "no worker hosts it: start runnel worker, or runnel run"},
		"Labels":     {known + "labels: {zone: eu}\n", nil, "no worker hosts it: start runnel worker --labels zone=eu, or runnel run"},
		"NoHandler":  {own, nil, "no worker has the handler cache: start the binary that has it"},
		"Others":     {own, []registry.Worker{{}, {Handlers: []string{"queue"}}}, "no worker has the handler cache: start the binary that has it"},
		"Unlabelled": {own + "labels: {zone: eu}\n", []registry.Worker{{Handlers: []string{"cache"}}}, "no worker hosts it: start one that has the handler cache --labels zone=eu"},
	} {
		n := registry.Named[registry.FunctionRecord]{Name: "f", Record: registry.FunctionRecord{State: registry.Running, Spec: "kind: function\nname: f\nfrom: shop.public.orders\n" + c.spec}}
		var workers []registry.Named[registry.Worker]
		for _, w := range c.workers {
			workers = append(workers, registry.Named[registry.Worker]{Name: "w", Record: w})
		}
		line := summed(n, workers)
		if line.State != "idle" || line.Error != c.want {
			t.Errorf("%s: got %s, %q, want %q", name, line.State, line.Error, c.want)
		}
	}
}
