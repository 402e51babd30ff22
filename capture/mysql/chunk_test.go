package mysql_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// key is a row with the columns of its key alone.
func key(s *event.Schema, row []byte) json.RawMessage {
	values := map[string]json.RawMessage{}
	for _, i := range s.KeyColumns() {
		v, _ := event.RowOf(row).Column(s.Columns[i].Name)
		values[s.Columns[i].Name] = json.RawMessage(v)
	}
	b, err := json.Marshal(values)
	if err != nil {
		panic(err)
	}
	return b
}

// TestChunkKeys: chunks of any size give each row once, whatever the key is made of, and rows are found by their keys.
func TestChunkKeys(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for n, tt := range []struct {
			columns, key string
			rows         []string
		}{
			{"a int", "a", []string{"-5", "0", "3", "-2147483648", "7"}},
			{"a bigint unsigned", "a", []string{"0", "18446744073709551615", "9223372036854775808", "1"}},
			{"a varchar(20) COLLATE utf8mb4_general_ci", "a", []string{"'b'", "'A'", "'c'", "'ä2'", "'Z'", "''", "'it''s \\\\ x'"}},
			{"a varchar(20) CHARACTER SET latin1", "a", []string{"'é'", "'z'", "'ü'", "'a'"}},
			{"a binary(4)", "a", []string{"x'00'", "x'ff00ff00'", "'ab'", "x'27'"}},
			{"a varbinary(4)", "a", []string{"x''", "x'00'", "x'0000'", "x'5c27'"}},
			{"a date", "a", []string{"'2024-01-01'", "'1999-12-31'", "'9999-12-31'"}},
			{"a datetime(3)", "a", []string{"'2024-01-01 00:00:00.001'", "'2024-01-01 00:00:00.002'", "'2023-01-01'"}},
			{"a timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)", "a", []string{"'2024-01-01 00:00:00.000001'", "'2024-01-01 00:00:00.000002'", "'2001-01-01'"}},
			{"a time", "a", []string{"'-838:59:59'", "'00:00:00'", "'100:00:00'", "'-00:00:01'"}},
			{"a decimal(30,10)", "a", []string{"-1.5", "0", "99999999999999999999.0000000001", "99999999999999999999.0000000002"}},
			{"a float", "a", []string{"0.1", "0.3", "-0.1", "1e30"}},
			{"a double", "a", []string{"0.1", "0.30000000000000004", "-1e300", "1e300"}},
			{"a bit(10)", "a", []string{"b'1'", "b'1111111111'", "b'0'", "b'1000000000'"}},
			{"a enum('z','y','x')", "a", []string{"'x'", "'y'", "'z'"}},
			{"a set('z','y','x')", "a", []string{"'x,z'", "'y'", "''", "'x,y,z'"}},
			{"a year", "a", []string{"1999", "2024", "0"}},
			{"a int, b varchar(5), c bigint unsigned", "b, c, a", []string{"1, 'x', 5", "2, 'x', 5", "1, 'x', 6", "1, 'y', 0", "-1, 'A', 18446744073709551615", "3, 'a', 1"}},
		} {
			table := fmt.Sprintf("k%d", n)
			w.exec(fmt.Sprintf("CREATE TABLE %s (%s, v int, PRIMARY KEY (%s))", table, tt.columns, tt.key))
			for i, r := range tt.rows {
				w.exec(fmt.Sprintf("INSERT INTO %s VALUES (%s, %d)", table, r, i))
			}
		}
		l := w.open(w.source(), "")
		tables, err := l.Tables(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range tables {
			name := info.Schema.Table
			want := w.text("SELECT count(*) FROM " + name.Name)
			var keys []json.RawMessage // of all rows but the first
			for _, r := range w.chunk(l, name.Name).Rows[1:] {
				keys = append(keys, key(info.Schema, r.JSON))
			}
			c, err := l.Chunk(t.Context(), capture.ChunkRequest{Table: name, MaxRows: 100, MaxBytes: 1 << 20, Keys: keys})
			if err != nil {
				t.Fatalf("%s with keys %s: %v", info.Schema.Columns[0].Type, keys, err)
			}
			var got []json.RawMessage
			for _, r := range c.Rows {
				got = append(got, key(info.Schema, r.JSON))
			}
			if d := cmp.Diff(keys, got); d != "" {
				t.Errorf("%s: rows with keys (-want +got):\n%s", info.Schema.Columns[0].Type, d)
			}
			for _, size := range []int{1, 2, 100} {
				seen := map[string]bool{}
				for after, n := "", 0; ; n++ {
					c, err := l.Chunk(t.Context(), capture.ChunkRequest{Table: name, After: after, MaxRows: size, MaxBytes: 1 << 20})
					if err != nil {
						t.Fatalf("%s after %s: %v", info.Schema.Columns[0].Type, after, err)
					}
					for _, r := range c.Rows {
						if seen[string(r.Key)] {
							t.Errorf("%s: %s is there twice", info.Schema.Columns[0].Type, r.JSON)
						}
						seen[string(r.Key)] = true
					}
					if after = c.Next; after == "" || n > 20 {
						break
					}
				}
				if fmt.Sprint(len(seen)) != want {
					t.Errorf("%s in chunks of %d: %d rows, want %s", info.Schema.Columns[0].Type, size, len(seen), want)
				}
			}
		}
	})
}
