package functiontest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// compare holds the target against the table.
func (g *play) compare(ctx context.Context) error {
	var rows []string
	if err := g.insist(ctx, func(ctx context.Context) (err error) {
		rows, err = g.Target.Rows(ctx)
		return err
	}); err != nil {
		return fmt.Errorf("read the target's rows: %w", err)
	}
	model := g.model()
	if g.Expect != nil {
		var table []string
		for _, key := range slices.Sorted(maps.Keys(model)) {
			table = append(table, model[key].row)
		}
		return differ(rows, g.Expect(table))
	}
	rows, err := g.own(rows)
	if err != nil {
		return err
	}
	var want []string
	for key, it := range model {
		if it.poison { // how a target that takes it shows it is its own affair
			n := slices.IndexFunc(rows, func(row string) bool { k, _ := g.keyOf(row); return k == key })
			if n >= 0 {
				rows = slices.Delete(rows, n, n+1)
				continue
			}
		}
		want = append(want, it.row)
	}
	return differ(rows, want)
}

// own are the rows of this history's keys; all, where the target was empty at its beginning.
func (g *play) own(rows []string) ([]string, error) {
	_, emptied := g.Target.(Resetter)
	keys := g.source.keys()
	var own []string
	for _, row := range rows {
		key, ok := g.keyOf(row)
		if !ok && !strings.Contains(row, "###") {
			return nil, fmt.Errorf("the target's row %s does not hold the columns of the key: Rows has to return them, or Suite.Expect says what rows look like", row)
		}
		if emptied || !ok || keys[key] {
			own = append(own, row)
		}
	}
	return own, nil
}

// differ compares two sets of rows, as JSON.
func differ(have, want []string) error {
	if slices.Equal(canonicals(have), canonicals(want)) {
		return nil
	}
	return &broken{what: "the target does not hold what the table holds", have: have, want: want}
}

func canonicals(rows []string) []string {
	var all []string
	for _, row := range rows {
		all = append(all, canonical(row))
	}
	slices.Sort(all)
	return all
}

// canonical is a row in a form in which equal rows look alike: members in order, 1.50 as 1.5, and NULL as a column that is not there.
func canonical(row string) string {
	d := json.NewDecoder(strings.NewReader(row))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return row
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(plain(v, true)); err != nil {
		return row
	}
	return strings.TrimSpace(b.String())
}

func plain(v any, row bool) any {
	switch v := v.(type) {
	case json.Number:
		if r, ok := new(big.Rat).SetString(string(v)); ok && len(v) < 100 && !strings.ContainsAny(string(v), "eE") {
			return r.RatString()
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i], false)
		}
	case map[string]any:
		for name, value := range v {
			if value == nil && row {
				delete(v, name)
				continue
			}
			v[name] = plain(value, false)
		}
	}
	return v
}
