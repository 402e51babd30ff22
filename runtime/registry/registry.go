// Package registry keeps what the operator asked for and what the parts remember: specifications of sources and functions,
// read strictly from YAML, and the records in KV.
//
// It promises: a file with faults is refused as a whole, and every fault is reported at once with its place; a deploy of
// what is deployed already changes nothing; records change by compare-and-swap only, so two operators never overwrite each
// other unseen; a function's generation is never used twice, even by a function of the same name that was deleted before;
// secrets stay references (${NAME}) in everything that is stored.
package registry

import (
	"context"
	"fmt"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// Names of the KV buckets.
const (
	BucketSources   = "RUNNEL_sources"   // <source> = SourceRecord
	BucketCaptures  = "RUNNEL_captures"  // <source> = Capture
	BucketSnapshots = "RUNNEL_snapshots" // <source>.<load id>[...] = the agent's progress
	BucketSchemas   = "RUNNEL_schemas"   // event.Schema.KVKey = event.Schema
	BucketFunctions = "RUNNEL_functions" // <function> = FunctionRecord, with history
	BucketOwners    = "RUNNEL_owners"    // <function>.<generation>.<partition> = Owner
	BucketWorkers   = "RUNNEL_workers"   // <instance> = Worker, with a TTL
	BucketAgents    = "RUNNEL_agents"    // <source>.<instance> = Agent, with a TTL
	BucketVersions  = "RUNNEL_versions"  // <function>.<version> = Version
)

// Registry reads and writes the records.
type Registry struct {
	Sources, Captures, Snapshots, Schemas, Functions, Owners, Workers, Agents, Versions *stream.Bucket
}

// Open opens the buckets, creating what is missing.
func Open(ctx context.Context, c *stream.Conn) (*Registry, error) {
	r := &Registry{}
	for _, b := range []struct {
		bucket **stream.Bucket
		config stream.BucketConfig
	}{
		{&r.Sources, stream.BucketConfig{Name: BucketSources, History: specHistory}},
		{&r.Captures, stream.BucketConfig{Name: BucketCaptures}},
		{&r.Snapshots, stream.BucketConfig{Name: BucketSnapshots}},
		{&r.Schemas, stream.BucketConfig{Name: BucketSchemas}},
		{&r.Functions, stream.BucketConfig{Name: BucketFunctions, History: specHistory}},
		{&r.Owners, stream.BucketConfig{Name: BucketOwners}},
		{&r.Workers, stream.BucketConfig{Name: BucketWorkers, TTL: WorkerTTL}},
		{&r.Agents, stream.BucketConfig{Name: BucketAgents, TTL: WorkerTTL}},
		{&r.Versions, stream.BucketConfig{Name: BucketVersions}},
	} {
		opened, err := stream.OpenBucket(ctx, c, b.config)
		if err != nil {
			return nil, fmt.Errorf("open bucket %s: %w", b.config.Name, err)
		}
		*b.bucket = opened
	}
	return r, nil
}
