package registry

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Source is `kind: source`.
type Source struct {
	Name     string           `yaml:"name"`     // [a-z0-9][a-z0-9_-]*, at most 40
	Postgres *PostgresSource  `yaml:"postgres"` // exactly one of the connectors
	MySQL    *MySQLSource     `yaml:"mysql"`
	MariaDB  *MySQLSource     `yaml:"mariadb"`
	Tables   []string         `yaml:"tables"` // schema.table, * and ? as wildcards; at least one
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

// MySQLSource says how to reach MySQL or MariaDB.
type MySQLSource struct {
	URL string `yaml:"url"` // a reference: ${SHOP_URL}, which is mysql://user:password@host:3306/?tls=verify
}

// Connector is the one of the source, and its URL as it stands in the specification.
func (s *Source) Connector() (name, url string) {
	switch {
	case s.Postgres != nil:
		return "postgres", s.Postgres.URL
	case s.MySQL != nil:
		return "mysql", s.MySQL.URL
	case s.MariaDB != nil:
		return "mariadb", s.MariaDB.URL
	}
	return "", ""
}

// StreamSettings of a source.
type StreamSettings struct {
	Partitions int           `yaml:"partitions"` // default 8, 1 to 256; fixed when the stream is created
	MaxAge     time.Duration `yaml:"max_age"`    // default 168h
	MaxBytes   int64         `yaml:"max_bytes"`  // default 10 GiB; accepts 10GiB, 500MB
	Replicas   int           `yaml:"replicas"`   // default 0: 1 embedded, 3 on a cluster
}

// SnapshotSettings of a source.
type SnapshotSettings struct {
	Parallel  int `yaml:"parallel"`   // tables at a time, of each the next chunk beside the one that is published; default 2
	ChunkRows int `yaml:"chunk_rows"` // default 10000 (a chunk is also bounded in bytes)
}

// Function is `kind: function`.
type Function struct {
	Name     string   `yaml:"name"`
	From     []string `yaml:"from"` // <source>.<schema>.<table>, * per token; one value or a list
	To       Target   `yaml:"to"`   // a target that Runnel knows
	Batch    Batching `yaml:"batch"`
	Ordering string   `yaml:"ordering"` // key (default): events of a key in order, keys in parallel | source: whole transactions, as they were committed
	Rate     Rate     `yaml:"rate"`     // events a second at most, of all workers together; default 0: no limit; accepts 500/s, 30/m
	Truncate string   `yaml:"truncate"` // apply (default) | ignore | halt

	Filter  string        `yaml:"filter"`  // CEL over `after`: rows for which it is not true are not in the target
	Ops     []string      `yaml:"ops"`     // kinds of events, of c, u, d and r; default all
	Columns ColumnChoice  `yaml:"columns"` // which columns the target gets, and under what names
	Set     []Computation `yaml:"set"`     // computed columns, as a mapping: column: CEL over `after`
	Mask    Masking       `yaml:"mask"`    // hidden values

	Labels map[string]string `yaml:"labels"` // that a worker must have to host it: runnel worker --labels

	Handler string            `yaml:"handler"` // instead of to: the name of a handler in a binary of your own
	Config  map[string]string `yaml:"config"`  // settings of that handler; secrets are references
}

// Target says where the function writes, for people: the kind of its target, or its handler.
func (f *Function) Target() string {
	if f.Handler != "" {
		return "handler " + f.Handler
	}
	return f.To.Kind()
}

// Source is the name of the source that the function reads from.
func (f *Function) Source() string {
	if len(f.From) == 0 {
		return ""
	}
	source, _, _ := strings.Cut(f.From[0], ".")
	return source
}

// Subject is the one subject that covers all that the function reads of a partition: exact, else the narrowest wildcard.
func (f *Function) Subject(partition int) string {
	tokens := strings.Split(f.From[0], ".")
	for _, from := range f.From[1:] {
		for i, t := range strings.Split(from, ".") {
			if t != tokens[i] {
				tokens[i] = "*"
			}
		}
	}
	return "cdc." + strings.Join(tokens, ".") + "." + strconv.Itoa(partition)
}

// Target is exactly one of them. Secrets are references.
type Target struct {
	Elasticsearch *ElasticsearchTarget `yaml:"elasticsearch"`
	ClickHouse    *ClickHouseTarget    `yaml:"clickhouse"`
	Postgres      *PostgresTarget      `yaml:"postgres"`
	HTTP          *HTTPTarget          `yaml:"http"`
	NATS          *NATSTarget          `yaml:"nats"`
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

// HTTPTarget is an endpoint that events are posted to.
type HTTPTarget struct {
	URL      string            `yaml:"url"`
	Format   string            `yaml:"format"`    // json (default) | cloudevents
	Secret   string            `yaml:"secret"`    // that signs each request, as Standard Webhooks do; a reference
	Token    string            `yaml:"token"`     // Authorization: Bearer; a reference
	User     string            `yaml:"user"`      // basic authentication instead
	Password string            `yaml:"password"`  // a reference
	Headers  map[string]string `yaml:"headers"`   // more headers
	CAFile   string            `yaml:"ca_file"`   // certificates that the server's is checked against
	CertFile string            `yaml:"cert_file"` // the client's certificate
	KeyFile  string            `yaml:"key_file"`  // and its key
}

// NATSTarget is a subject per event, in a stream of another subject, server or account.
type NATSTarget struct {
	URL       string `yaml:"url"`     // nats://host:4222, several with commas
	Subject   string `yaml:"subject"` // {source}, {schema}, {table}, {partition}, {op} and {id} are replaced; default {source}.{schema}.{table}
	Stream    string `yaml:"stream"`  // that must take it; default: whichever does
	Domain    string `yaml:"domain"`  // JetStream domain, of a leaf node or a hub
	User      string `yaml:"user"`
	Password  string `yaml:"password"` // a reference
	Token     string `yaml:"token"`    // a reference
	CredsFile string `yaml:"creds_file"`
	NKeyFile  string `yaml:"nkey_file"`
	CAFile    string `yaml:"ca_file"`
	CertFile  string `yaml:"cert_file"`
	KeyFile   string `yaml:"key_file"`
}

// References are the values of the target that may hold references.
func (t *Target) References() []string {
	switch {
	case t.Elasticsearch != nil:
		e := t.Elasticsearch
		return []string{e.URL, e.User, e.Password, e.APIKey, e.CAFile}
	case t.ClickHouse != nil:
		return []string{t.ClickHouse.URL}
	case t.Postgres != nil:
		return []string{t.Postgres.URL}
	case t.HTTP != nil:
		h := t.HTTP
		references := []string{h.URL, h.Secret, h.Token, h.User, h.Password, h.CAFile, h.CertFile, h.KeyFile}
		for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
			references = append(references, h.Headers[name])
		}
		return references
	case t.NATS != nil:
		n := t.NATS
		return []string{n.URL, n.User, n.Password, n.Token, n.CredsFile, n.NKeyFile, n.CAFile, n.CertFile, n.KeyFile}
	}
	return nil
}

// Kinds of targets, as specifications name them.
var targetKinds = []string{"elasticsearch", "clickhouse", "postgres", "http", "nats"}

// Kind names the kind of target.
func (t *Target) Kind() string {
	kind, _, _ := t.place()
	return kind
}

// place is the kind of target with its URL, and the name of what holds a table's rows, where there is such a thing, as they stand in
// the specification.
func (t *Target) place() (kind, url, name string) {
	switch {
	case t.Elasticsearch != nil:
		return "elasticsearch", t.Elasticsearch.URL, t.Elasticsearch.Index
	case t.ClickHouse != nil:
		return "clickhouse", t.ClickHouse.URL, t.ClickHouse.Table
	case t.Postgres != nil:
		return "postgres", t.Postgres.URL, t.Postgres.Table
	case t.HTTP != nil:
		return "http", t.HTTP.URL, ""
	case t.NATS != nil:
		return "nats", t.NATS.URL, ""
	}
	return "", "", ""
}

// Batching bounds batches; whichever comes first. When the flow is slow nothing waits.
type Batching struct {
	Rows  int           `yaml:"rows"`  // default 5000
	Bytes int64         `yaml:"bytes"` // default 8 MiB
	Age   time.Duration `yaml:"age"`   // default 0: never wait
}

// Orders in which a target gets events.
const (
	OrderKey    = "key"
	OrderSource = "source"
)

// Lanes is how many partitions the function is read in: those of its source's stream, or one for everything.
func (f *Function) Lanes(partitions int) int {
	if f.Ordering == OrderSource {
		return 1
	}
	return partitions
}

// Rate is events a second; 0 is no limit.
type Rate float64

// Ways to meet a TRUNCATE.
const (
	TruncateApply  = "apply"
	TruncateIgnore = "ignore"
	TruncateHalt   = "halt"
)

// fill sets the defaults, so that a reader of a specification never needs to know them.
func (s *Source) fill() {
	if p := s.Postgres; p != nil {
		name := "runnel_" + strings.ReplaceAll(s.Name, "-", "_") // a slot's name allows no hyphen
		orDefault(&p.Slot, name)
		orDefault(&p.Publication, name)
		orDefault(&p.Heartbeat, 10*time.Second)
	}
	orDefault(&s.Stream.Partitions, 8)
	orDefault(&s.Stream.MaxAge, 7*24*time.Hour)
	orDefault(&s.Stream.MaxBytes, 10<<30)
	orDefault(&s.Snapshot.Parallel, 2)
	orDefault(&s.Snapshot.ChunkRows, 10_000)
}

func (f *Function) fill() {
	if t := f.To.Elasticsearch; t != nil {
		orDefault(&t.Index, "{table}")
	}
	if t := f.To.ClickHouse; t != nil {
		orDefault(&t.Table, "{table}")
	}
	if t := f.To.Postgres; t != nil {
		orDefault(&t.Table, "{schema}.{table}")
	}
	if t := f.To.HTTP; t != nil {
		orDefault(&t.Format, "json")
	}
	if t := f.To.NATS; t != nil {
		orDefault(&t.Subject, "{source}.{schema}.{table}")
	}
	orDefault(&f.Batch.Rows, 5000)
	orDefault(&f.Batch.Bytes, 8<<20)
	orDefault(&f.Ordering, OrderKey)
	orDefault(&f.Truncate, TruncateApply)
}

func orDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
