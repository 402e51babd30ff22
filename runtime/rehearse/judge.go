package rehearse

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// Difference between what a case expects and what came.
type Difference struct {
	What string   `json:"what"` // rows, documents, deletes, dead or request
	Want []string `json:"want"`
	Got  []string `json:"got"`
}

// Judge compares. Rows are equal that have the same columns with equal values: 1.0 is 1.00, and the order of columns does not count.
func Judge(x *registry.Expectation, r *Result) []Difference {
	var all []Difference
	compare := func(what string, want, got []string, equal func(a, b string) bool) {
		if !slices.EqualFunc(want, got, equal) {
			all = append(all, Difference{what, want, got})
		}
	}
	rows, deletes := r.written()
	exact := x.Request != ""
	switch {
	case x.Documents != nil:
		compare("documents", texts(x.Documents), rows, equalJSON)
	case x.Rows != nil || !exact:
		compare("rows", texts(x.Rows), rows, equalJSON)
	}
	if x.Deletes != nil || !exact {
		compare("deletes", texts(x.Deletes), deletes, equalJSON)
	}
	var dead []string
	for _, d := range r.Dead {
		dead = append(dead, d.Err.Error())
	}
	compare("dead", x.Dead, dead, func(part, reason string) bool { return strings.Contains(reason, part) })
	if exact {
		compare("request", lines(x.Request), lines(string(r.Request())), func(a, b string) bool { return a == b })
	}
	return all
}

func texts(rows []registry.JSON) []string {
	all := make([]string, len(rows))
	for i := range rows {
		all[i] = string(rows[i])
	}
	return all
}

func lines(text string) []string {
	return strings.Split(strings.TrimRight(text, "\n"), "\n")
}

// Request is all that would be sent, one after the other.
func (r *Result) Request() []byte {
	var all []byte
	for i := range r.Steps {
		all = append(all, r.Steps[i].Request...)
	}
	return all
}

// written are rows and keys in the order of the stream.
func (r *Result) written() (rows, deletes []string) {
	var events []event.Event
	for i := range r.Steps {
		if !r.Steps[i].Place {
			events = append(events, r.Steps[i].Events...)
		}
	}
	slices.SortStableFunc(events, func(a, b event.Event) int { return cmp.Compare(a.Version, b.Version) })
	for i := range events {
		if e := &events[i]; e.Op == event.Delete {
			deletes = append(deletes, keyOf(e))
		} else {
			rows = append(rows, string(e.After.Raw()))
		}
	}
	return rows, deletes
}

// keyOf is the key of a deleted row; under REPLICA IDENTITY FULL the event holds more.
func keyOf(e *event.Event) string {
	key := []byte{'{'}
	for n, i := range e.Schema.KeyColumns() {
		if n > 0 {
			key = append(key, ',')
		}
		v, _ := e.Before.Column(e.Schema.Columns[i].Name)
		key = append(append(event.AppendJSONString(key, e.Schema.Columns[i].Name), ':'), v...)
	}
	return string(append(key, '}'))
}

func equalJSON(a, b string) bool {
	x, err1 := parse(a)
	y, err2 := parse(b)
	return err1 == nil && err2 == nil && equal(x, y)
}

func parse(text string) (any, error) {
	var v any
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	return v, d.Decode(&v)
}

func equal(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		n, ok := b.(json.Number)
		if !ok {
			return false
		}
		x, ok1 := new(big.Rat).SetString(a.String())
		y, ok2 := new(big.Rat).SetString(n.String())
		return ok1 && ok2 && x.Cmp(y) == 0
	case []any:
		list, ok := b.([]any)
		return ok && slices.EqualFunc(a, list, equal)
	case map[string]any:
		m, ok := b.(map[string]any)
		if !ok || len(a) != len(m) {
			return false
		}
		for k, v := range a {
			if w, there := m[k]; !there || !equal(v, w) {
				return false
			}
		}
		return true
	default:
		return a == b
	}
}

// String shows a difference as lines: what is missing with -, what was not expected with +, and of a row that differs the columns.
func (d Difference) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (-want +got)\n", d.What)
	same := func(i, j int) bool { return d.Want[i] == d.Got[j] }
	switch d.What {
	case "dead":
		same = func(i, j int) bool { return strings.Contains(d.Got[j], d.Want[i]) }
	case "rows", "documents", "deletes":
		same = func(i, j int) bool { return equalJSON(d.Want[i], d.Got[j]) }
	}
	i, j := 0, 0
	for _, c := range common(len(d.Want), len(d.Got), same) {
		d.change(&b, d.Want[i:c.want], d.Got[j:c.got])
		if c.want < len(d.Want) {
			fmt.Fprintf(&b, "    %s\n", d.Got[c.got])
		}
		i, j = c.want+1, c.got+1
	}
	return b.String()
}

// change shows what stands in the place of what; as many of both are pairs.
func (d Difference) change(b *strings.Builder, want, got []string) {
	if len(want) == len(got) {
		for i := range want {
			fmt.Fprintf(b, "  - %s\n  + %s\n%s", want[i], got[i], columns(want[i], got[i]))
		}
		return
	}
	for _, text := range want {
		fmt.Fprintf(b, "  - %s\n", text)
	}
	for _, text := range got {
		fmt.Fprintf(b, "  + %s\n", text)
	}
}

// place is an item of both lists.
type place struct{ want, got int }

// common are the places of the longest common part of two lists, and behind them the end of both.
func common(n, m int, same func(i, j int) bool) []place {
	length := make([][]int, n+1)
	for i := range length {
		length[i] = make([]int, m+1)
	}
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if length[i][j] = max(length[i+1][j], length[i][j+1]); same(i, j) {
				length[i][j] = length[i+1][j+1] + 1
			}
		}
	}
	var all []place
	for i, j := 0, 0; i < n && j < m; {
		switch {
		case same(i, j):
			all = append(all, place{i, j})
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return append(all, place{n, m})
}

// columns says in which columns two rows differ, where they have the same ones.
func columns(want, got string) string {
	x, err1 := parse(want)
	y, err2 := parse(got)
	a, ok1 := x.(map[string]any)
	g, ok2 := y.(map[string]any)
	if err1 != nil || err2 != nil || !ok1 || !ok2 {
		return ""
	}
	var b strings.Builder
	for name, v := range event.RowOf([]byte(got)).All() {
		if w, there := a[name]; !there {
			fmt.Fprintf(&b, "      %s: not expected\n", name)
		} else if !equal(w, g[name]) {
			expected, _ := event.RowOf([]byte(want)).Column(name)
			fmt.Fprintf(&b, "      %s: want %s, got %s\n", name, []byte(expected), []byte(v))
		}
	}
	for name := range event.RowOf([]byte(want)).All() {
		if _, there := g[name]; !there {
			fmt.Fprintf(&b, "      %s: missing\n", name)
		}
	}
	return b.String()
}
