// Package registry keeps what the operator asked for and what the parts remember: specifications of sources and functions,
// read strictly from YAML, and the records in KV.
package registry

// This file is replaced by the implementation (spec.go, yaml.go, records.go, ...).

import (
	"context"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
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
)

// Source is `kind: source`.
type Source struct {
	Name     string           `yaml:"name"`     // [a-z0-9][a-z0-9_-]*, at most 40
	Postgres *PostgresSource  `yaml:"postgres"` // exactly one of the connectors
	Tables   []string         `yaml:"tables"`   // schema.table, * and ? as wildcards; at least one
	Stream   StreamSettings   `yaml:"stream"`
	Snapshot SnapshotSettings `yaml:"snapshot"`
}

// PostgresSource says how to reach PostgreSQL.
type PostgresSource struct {
	URL         string        `yaml:"url"`         // a reference: ${SHOP_URL}
	Slot        string        `yaml:"slot"`        // default runnel_<source>
	Publication string        `yaml:"publication"` // default runnel_<source>; the one of tables without replica identity: <publication>_insert
	Failover    *bool         `yaml:"failover"`    // default true on 17+
	Heartbeat   time.Duration `yaml:"heartbeat"`   // default 10s
}

// StreamSettings of a source.
type StreamSettings struct {
	Partitions int           `yaml:"partitions"` // default 8
	MaxAge     time.Duration `yaml:"max_age"`    // default 168h
	MaxBytes   int64         `yaml:"max_bytes"`  // default 10 GiB; accepts 10GiB, 500MB
	Replicas   int           `yaml:"replicas"`
}

// SnapshotSettings of a source.
type SnapshotSettings struct {
	Parallel  int `yaml:"parallel"`   // chunks at a time; default 2
	ChunkRows int `yaml:"chunk_rows"` // default 10000 (a chunk is also bounded in bytes)
}

// Function is `kind: function`.
type Function struct {
	Name     string   `yaml:"name"`
	From     []string `yaml:"from"` // <source>.<schema>.<table>, * per token; one value or a list
	To       Target   `yaml:"to"`
	Batch    Batching `yaml:"batch"`
	Truncate string   `yaml:"truncate"` // apply (default) | ignore | halt
}

// Target is exactly one of them. Secrets are references.
type Target struct {
	Elasticsearch *ElasticsearchTarget `yaml:"elasticsearch"`
	ClickHouse    *ClickHouseTarget    `yaml:"clickhouse"`
	Postgres      *PostgresTarget      `yaml:"postgres"`
}

// ElasticsearchTarget is an index per table.
type ElasticsearchTarget struct {
	URL      string `yaml:"url"`
	User     string `yaml:"user"`
	Password string `yaml:"password"`
	APIKey   string `yaml:"api_key"`
	CAFile   string `yaml:"ca_file"`
	Index    string `yaml:"index"` // {schema} and {table} are replaced; default {table}
}

// ClickHouseTarget is a table per table.
type ClickHouseTarget struct {
	URL   string `yaml:"url"`   // clickhouse://user:password@host:9000/database or http(s)://
	Table string `yaml:"table"` // default {table}
}

// PostgresTarget is a table per table.
type PostgresTarget struct {
	URL   string `yaml:"url"`
	Table string `yaml:"table"` // schema.table or table; default {schema}.{table}
}

// Batching bounds batches; whichever comes first. When the flow is slow nothing waits.
type Batching struct {
	Rows  int           `yaml:"rows"`  // default 5000
	Bytes int64         `yaml:"bytes"` // default 8 MiB
	Age   time.Duration `yaml:"age"`   // default 0: never wait
}

// Files is what a set of YAML files says.
type Files struct {
	Sources   []Source
	Functions []Function
	Text      map[string]string // "source/<name>" or "function/<name>" to the document's own text, references unresolved
}

// ReadFiles reads files (several documents each). All faults are reported at once, each with file:line:column, what was expected
// and the nearest valid name. References are checked to be references but not resolved.
func ReadFiles(paths ...string) (*Files, error) { panic("todo") }

// ParseSource and ParseFunction read one document as it is kept in KV.
func ParseSource(name, text string) (*Source, error)     { panic("todo") }
func ParseFunction(name, text string) (*Function, error) { panic("todo") }

// Resolve replaces ${NAME} by the environment's value; a missing one is an error that names it. It never appears in errors.
func Resolve(s string) (string, error) { panic("todo") }

// State of a source or function.
type State string

// States.
const (
	Running State = "running"
	Paused  State = "paused"
	Halted  State = "halted" // by itself: Reason says why; resume tries again
)

// SourceRecord is what KV keeps of a source.
type SourceRecord struct {
	Spec    string    `json:"spec"` // YAML
	State   State     `json:"state"`
	Reason  string    `json:"reason,omitempty"`
	Updated time.Time `json:"updated"`
}

// FunctionRecord is what KV keeps of a function.
type FunctionRecord struct {
	Spec       string     `json:"spec"`
	Version    int        `json:"version"`    // of the spec: 1, 2, ...
	Generation int64      `json:"generation"` // max(old+1, clock), never used again
	Start      sink.Point `json:"start"`      // of the generation: read after this
	State      State      `json:"state"`
	Reason     string     `json:"reason,omitempty"`
	Updated    time.Time  `json:"updated"`
}

// Capture is the record of a capture agent. Positions are in the form of event.Position.String.
type Capture struct {
	Position string        `json:"position"`
	First    string        `json:"first"` // where the slot began
	Identity string        `json:"identity"`
	Slot     string        `json:"slot"`
	Epoch    uint32        `json:"epoch"`
	Base     uint64        `json:"base"`
	Sequence uint64        `json:"sequence"`
	Version  event.Version `json:"version"`
	Group    string        `json:"group"` // of the last message
	Load     Load          `json:"load"`  // the first load, or the newest one for all
}

// Load is a reading of all tables.
type Load struct {
	ID       string `json:"id"`
	Sequence uint64 `json:"sequence"`        // it lies wholly above this sequence; a stream that begins later does not hold it
	Sweep    bool   `json:"sweep,omitempty"` // it begins with m and ends with t: targets forget what it did not show
	Done     bool   `json:"done"`
}

// Owner is the record of a partition of a function; Floor is the checkpoint.
type Owner struct {
	Instance string     `json:"instance,omitempty"` // "" = released
	Turn     int64      `json:"turn"`
	Floor    sink.Point `json:"floor"`
}

// Worker is the announcement of a worker.
type Worker struct {
	Host    string                    `json:"host"`
	PID     int                       `json:"pid"`
	Started time.Time                 `json:"started"`
	Status  map[string]FunctionStatus `json:"status"` // by function
}

// FunctionStatus is what a worker says about a function it hosts.
type FunctionStatus struct {
	Partitions []int   `json:"partitions"`
	Stalled    bool    `json:"stalled,omitempty"` // the target does not answer; it is tried again
	LastError  string  `json:"last_error,omitempty"`
	Rate       float64 `json:"rate"`        // events a second, the last seconds
	Backlog    uint64  `json:"backlog"`     // messages
	LagSeconds float64 `json:"lag_seconds"` // age of the oldest event not yet durable
}

// Registry reads and writes the records.
type Registry struct {
	Sources, Captures, Snapshots, Schemas, Functions, Owners, Workers *stream.Bucket
}

// Open opens the buckets, creating what is missing.
func Open(ctx context.Context, c *stream.Conn) (*Registry, error) { panic("todo") }

// Plan says what Deploy would do, for people: one line per source and function (create, change with a diff, unchanged).
func (r *Registry) Plan(ctx context.Context, f *Files) ([]Step, error) { panic("todo") }

// Step of a plan.
type Step struct {
	Kind, Name string // source or function
	Action     string // create, change, unchanged
	Diff       string
}

// Deploy carries it out.
func (r *Registry) Deploy(ctx context.Context, f *Files) ([]Step, error) { panic("todo") }
