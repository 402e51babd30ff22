package registry

import (
	"context"
	"strings"
	"time"
)

// Agent is the announcement of a capture agent: what a process does for a source.
type Agent struct {
	Host      string    `json:"host"`
	PID       int       `json:"pid"`
	State     string    `json:"state"` // connecting, standby, starting, streaming, stopped
	Detail    string    `json:"detail,omitempty"`
	Since     time.Time `json:"since"`           // when it came to that state
	Rate      float64   `json:"rate"`            // events a second, the last seconds
	Waits     string    `json:"waits,omitempty"` // the function that its loads wait for
	LastError string    `json:"last_error,omitempty"`
}

// AgentKey is the key of an agent's announcement; instance is random per process.
func AgentKey(source, instance string) string { return source + "." + instance }

// AgentsOf are the agents of each source that announced themselves within WorkerTTL.
func (r *Registry) AgentsOf(ctx context.Context) (map[string][]Agent, error) {
	all, err := list[Agent](ctx, r.Agents, "agents", ">")
	if err != nil {
		return nil, err
	}
	agents := map[string][]Agent{}
	for _, n := range all {
		source, _, _ := strings.Cut(n.Name, ".")
		agents[source] = append(agents[source], n.Record)
	}
	return agents, nil
}
