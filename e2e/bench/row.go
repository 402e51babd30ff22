package main

// Row is one measurement.
type Row struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Limit float64 `json:"limit"` // of this machine in this run; 0: none is known
	Ratio float64 `json:"ratio"` // value / limit
	Must  float64 `json:"must"`  // what must be reached, of the ratio or of the value
	Aim   float64 `json:"aim"`
	Pass  bool    `json:"pass"`
	What  string  `json:"what"`
}

// goal is what a row shall reach.
type goal struct {
	must, aim float64
	value     bool // of the value; else of the ratio
	below     bool // less is better
}

// names are the rows, in order.
var names = []string{"capture-w1", "capture-w2", "cpu-w1", "rss", "latency-store", "latency-target", "postgres-w2", "postgres-w1", "clickhouse-w1",
	"elasticsearch-w1", "snapshot", "mysql", "mariadb", "replay"}

var goals = map[string]goal{
	"capture-w1":       {must: 1.3, aim: 2},
	"capture-w2":       {must: 1.3, aim: 2},
	"cpu-w1":           {must: 9, aim: 6, value: true, below: true},
	"rss":              {must: 64, aim: 40, value: true, below: true},
	"latency-store":    {must: 1.3, aim: 1, below: true},
	"latency-target":   {must: 5, aim: 2, value: true, below: true},
	"postgres-w2":      {must: 0.4, aim: 0.7},
	"postgres-w1":      {must: 0.25, aim: 0.4},
	"clickhouse-w1":    {must: 0.5, aim: 0.8},
	"elasticsearch-w1": {must: 0.8, aim: 0.95},
	"snapshot":         {must: 0.6, aim: 0.85},
	"mysql":            {must: 0.5, aim: 0.8},
	"mariadb":          {must: 0.5, aim: 0.8},
	"replay":           {must: 0.7, aim: 0.9},
}

func (r Row) goal() goal { return goals[r.Name] }

// distance is how many times a row is worse than what must be reached.
func (g goal) distance(r Row) float64 {
	v := r.Ratio
	if g.value {
		v = r.Value
	}
	switch {
	case g.below:
		return v / g.must
	case v == 0:
		return 1e9
	default:
		return g.must / v
	}
}

// row judges a measurement.
func row(name string, value float64, unit string, limit float64, what string) Row {
	g := goals[name]
	r := Row{Name: name, Value: value, Unit: unit, Limit: limit, Must: g.must, Aim: g.aim, What: what}
	if limit > 0 {
		r.Ratio = value / limit
	}
	r.Pass = g.distance(r) <= 1
	return r
}
