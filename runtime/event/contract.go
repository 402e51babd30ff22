package event

// This file is replaced by the implementation.

import "iter"

// --- positions -------------------------------------------------------------------------------------------------------

// String is `<timeline>@<id>` (PostgreSQL) or `<origin>@<id>`: see ID. Zero is "0".
func (p Position) String() string { panic("todo") }

// ID is the part that identifies a change: PostgreSQL `<commit LSN>:<change LSN>:<n>[.<part>]` with LSNs as PostgreSQL prints
// them (`0/16B3748`), else `<gtid number>:<index>:<n>[.<part>]` after the origin and `:`.
func (p Position) ID() string { panic("todo") }

// AppendID appends ID without allocating.
func (p Position) AppendID(dst []byte) []byte { panic("todo") }

// ParsePosition reads what String printed.
func ParsePosition(s string) (Position, error) { panic("todo") }

// String is the header's form, `<from>;<to>;<k>/<n>`.
func (g Group) String() string { panic("todo") }

// ParseGroup reads it.
func ParseGroup(s string) (Group, error) { panic("todo") }

// --- subjects --------------------------------------------------------------------------------------------------------

// StreamName of a source: CDC_<source>.
func StreamName(source string) string { panic("todo") }

// Subject is cdc.<source>.<schema>.<table>.<partition>, tokens escaped.
func Subject(source string, t Table, partition int) string { panic("todo") }

// ParseSubject is its inverse.
func ParseSubject(subject string) (source string, t Table, partition int, err error) { panic("todo") }

// FenceSubject is cdc.<source>._fence, MarkSubject cdc.<source>._mark. They have three tokens, so no table can have them.
func FenceSubject(source string) string { panic("todo") }
func MarkSubject(source string) string  { panic("todo") }

// EscapeToken makes any identifier a legal subject token: `.`, `*`, `>`, `%`, blanks and control characters become %XX.
// KeyToken does so for keys of a KV bucket, where only letters, digits, - and _ are kept and others become =XX.
func EscapeToken(s string) string            { panic("todo") }
func UnescapeToken(s string) (string, error) { panic("todo") }
func KeyToken(s string) string               { panic("todo") }

// --- schemas ---------------------------------------------------------------------------------------------------------

// Column of a table, in table order.
type Column struct {
	Name     string `json:"name"`
	Type     string `json:"type"`           // as the source declares it: numeric(12,2), text[], public.mood
	Base     string `json:"base,omitempty"` // what a user-defined type is: a domain's base type in full, "enum", "composite", "range", "multirange"; arrays of them with []; else "text" for shapes unknown
	Nullable bool   `json:"nullable"`
	Key      int    `json:"key,omitempty"` // ordinal in the key from 1, 0 for none
}

// BaseType is Base, or Type where the type is built in.
func (c Column) BaseType() string { panic("todo") }

// Schema is one version of a table's structure. Make it with NewSchema; it does not change afterwards.
type Schema struct {
	Source    string   `json:"source"`
	Connector string   `json:"connector"` // postgresql, mysql, mariadb
	Database  string   `json:"database"`
	Table     Table    `json:"table"`
	Columns   []Column `json:"columns"`
	// unexported: fingerprint, key indexes, ...
}

func NewSchema(source, connector, database string, t Table, columns []Column) *Schema { panic("todo") }

// Fingerprint is 16 hex digits over table and columns (not over Source and Database).
func (s *Schema) Fingerprint() string { panic("todo") }

// KVKey is <source>.<schema>.<table>.<fingerprint>, each a KeyToken.
func (s *Schema) KVKey() string { panic("todo") }

// KeyColumns are the indexes of the key's columns in key order; none for a table without a key.
func (s *Schema) KeyColumns() []int { panic("todo") }

// AppendKey appends the canonical form of the row's key (1.0 = 1.00; citext folded): the partition hash's input, and a map
// key that is equal for equal keys. A row that lacks a key column is an error.
func (s *Schema) AppendKey(dst []byte, r Row) ([]byte, error) { panic("todo") }

// Partition is the hash of a canonical key modulo n; an empty key is partition 0.
func Partition(key []byte, n int) int { panic("todo") }

// MarshalSchema and ParseSchema are the KV value's form (JSON).
func (s *Schema) Marshal() []byte           { panic("todo") }
func ParseSchema(b []byte) (*Schema, error) { panic("todo") }

// --- rows ------------------------------------------------------------------------------------------------------------

// Row is one JSON object as it stands in the payload; the zero Row is null. Nothing is decoded before it is asked for.
type Row struct{ raw []byte }

// RowOf wraps one JSON object; nil or `null` is the null row. It does not validate.
func RowOf(raw []byte) Row { panic("todo") }

func (r Row) Raw() []byte  { panic("todo") }
func (r Row) IsNull() bool { return len(r.raw) == 0 }

// Column finds a column's raw value. All yields all columns in table order. Neither allocates, unless a name is escaped.
func (r Row) Column(name string) (Value, bool) { panic("todo") }
func (r Row) All() iter.Seq2[string, Value]    { panic("todo") }

// Value is one raw JSON value.
type Value []byte

func (v Value) IsNull() bool { panic("todo") }

// Text is a string's content, or the JSON text of anything else.
func (v Value) Text() string                 { panic("todo") }
func (v Value) AppendText(dst []byte) []byte { panic("todo") }
func (v Value) Int64() (int64, error)        { panic("todo") }
func (v Value) Float64() (float64, error)    { panic("todo") }
func (v Value) Bool() (bool, error)          { panic("todo") }

// --- encoding --------------------------------------------------------------------------------------------------------

// Change is one event on its way into the stream, as a source yields it. Before and After are JSON objects in canonical form
// (columns in table order, no line breaks); nil is null.
type Change struct {
	Op          Op
	Schema      *Schema
	Before      []byte
	After       []byte
	Cutoff      Version
	Position    Position // of a snapshot's row: where the log stood
	CommitMS    int64
	TxID        uint64 // 0: none
	Order       int64
	Last        bool
	Unavailable []string
	Snapshot    bool
}

// AppendLine appends the change's canonical line, line break included. Equal changes give equal bytes.
func AppendLine(dst []byte, c *Change) []byte { panic("todo") }

// Decode appends the message's events; a malformed line is an error that names sequence and line.
func (m *Message) Decode(dst []Event) ([]Event, error) { panic("todo") }

// AppendJSONString appends s as PostgreSQL's escape_json does: the canonical form of strings everywhere.
func AppendJSONString[T string | []byte](dst []byte, s T) []byte { panic("todo") }
