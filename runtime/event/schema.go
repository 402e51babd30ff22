package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// Column of a table, in table order.
type Column struct {
	Name     string `json:"name"`
	Type     string `json:"type"`           // as the source declares it: numeric(12,2), text[], public.mood
	Base     string `json:"base,omitempty"` // what a user-defined type is: a domain's base type in full, "enum", "composite", "range", "multirange"; arrays of them with []; else "text" for shapes unknown; of MySQL's types: the PostgreSQL type that holds every value
	Nullable bool   `json:"nullable"`
	Key      int    `json:"key,omitempty"` // ordinal in the key from 1, 0 for none
}

// BaseType is Base, or Type where the type is built in.
func (c Column) BaseType() string {
	if c.Base != "" {
		return c.Base
	}
	return c.Type
}

// Schema is one version of a table's structure. Make it with NewSchema; it does not change afterwards and may be shared.
type Schema struct {
	Source    string   `json:"source"`
	Connector string   `json:"connector"` // postgresql, mysql, mariadb
	Database  string   `json:"database"`
	Table     Table    `json:"table"`
	Columns   []Column `json:"columns"`

	fingerprint string
	key         []int
	rules       []keyRule // of the key's columns
	index       map[string]int
	sourceHead  []byte // what AppendLine prints around the changing parts of `source`
	sourceTail  []byte
}

// NewSchema makes a schema and what is derived from it.
func NewSchema(source, connector, database string, t Table, columns []Column) *Schema {
	s := &Schema{Source: source, Connector: connector, Database: database, Table: t, Columns: slices.Clone(columns)}
	s.index = make(map[string]int, len(s.Columns))
	for i, c := range s.Columns {
		s.index[c.Name] = i
		if c.Key > 0 {
			s.key = append(s.key, i)
		}
	}
	slices.SortStableFunc(s.key, func(i, j int) int { return s.Columns[i].Key - s.Columns[j].Key })
	for _, i := range s.key {
		s.rules = append(s.rules, ruleOf(s.Columns[i]))
	}
	sum := sha256.Sum256(append(s.appendStructure([]byte{'{'}), '}'))
	s.fingerprint = hex.EncodeToString(sum[:8])
	s.sourceHead, s.sourceTail = s.sourceParts()
	return s
}

// Fingerprint is 16 hex digits over table and columns (not over Source and Database).
func (s *Schema) Fingerprint() string { return s.fingerprint }

// KVKey is <source>.<schema>.<table>.<fingerprint>, each a KeyToken.
func (s *Schema) KVKey() string {
	return KeyToken(s.Source) + "." + KeyToken(s.Table.Schema) + "." + KeyToken(s.Table.Name) + "." + s.fingerprint
}

// KeyColumns are the indexes of the key's columns in key order; none for a table without a key. Read only.
func (s *Schema) KeyColumns() []int { return s.key }

// Index is the place of a column of that name, or -1.
func (s *Schema) Index(name string) int {
	if i, ok := s.index[name]; ok {
		return i
	}
	return -1
}

// Marshal is the KV value's form: JSON, with strings as AppendJSONString writes them and without any blank.
func (s *Schema) Marshal() []byte {
	dst := append(make([]byte, 0, 256), `{"source":`...)
	dst = AppendJSONString(dst, s.Source)
	dst = append(dst, `,"connector":`...)
	dst = AppendJSONString(dst, s.Connector)
	dst = append(dst, `,"database":`...)
	dst = AppendJSONString(dst, s.Database)
	dst = append(dst, ',')
	return append(s.appendStructure(dst), '}')
}

// appendStructure appends the members that the fingerprint covers.
func (s *Schema) appendStructure(dst []byte) []byte {
	dst = append(dst, `"table":{"schema":`...)
	dst = AppendJSONString(dst, s.Table.Schema)
	dst = append(dst, `,"name":`...)
	dst = AppendJSONString(dst, s.Table.Name)
	dst = append(dst, `},"columns":[`...)
	for i, c := range s.Columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"name":`...)
		dst = AppendJSONString(dst, c.Name)
		dst = append(dst, `,"type":`...)
		dst = AppendJSONString(dst, c.Type)
		if c.Base != "" {
			dst = append(dst, `,"base":`...)
			dst = AppendJSONString(dst, c.Base)
		}
		dst = append(dst, `,"nullable":`...)
		dst = strconv.AppendBool(dst, c.Nullable)
		if c.Key != 0 {
			dst = append(dst, `,"key":`...)
			dst = strconv.AppendInt(dst, int64(c.Key), 10)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// ParseSchema reads what Marshal wrote.
func ParseSchema(b []byte) (*Schema, error) {
	var s Schema
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("schema record: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("schema record: something follows the JSON object")
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("schema record of %s: %w", s.Table, err)
	}
	return NewSchema(s.Source, s.Connector, s.Database, s.Table, s.Columns), nil
}

func (s *Schema) check() error {
	if s.Table.Name == "" {
		return errors.New("the table has no name")
	}
	names := make(map[string]bool, len(s.Columns))
	ordinals := make(map[int]bool, len(s.Columns))
	last := 0
	for _, c := range s.Columns {
		if c.Name == "" || names[c.Name] {
			return fmt.Errorf("column name %q is empty or there twice", c.Name)
		}
		names[c.Name] = true
		if c.Key < 0 || c.Key > 0 && ordinals[c.Key] {
			return fmt.Errorf("column %q: key ordinal %d is negative or there twice", c.Name, c.Key)
		}
		if c.Key > 0 {
			ordinals[c.Key] = true
			last = max(last, c.Key)
		}
	}
	if last != len(ordinals) {
		return fmt.Errorf("key ordinals do not count from 1 to %d", len(ordinals))
	}
	return nil
}
