package mysql

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
)

// progress is what was read of the log, as the record keeps it.
type progress struct {
	read     set
	since    set              // complete beyond that by the stream's messages, which do not say what lies between: it is passed again
	newest   *ended           // of read: it is met again at the next start, which shows that the log is still the same
	prepared map[string]ended // of read, by XID: XA transactions that wait for their second phase; their rows are read again
}

// ended is a transaction that was read.
type ended struct {
	gtid     gtid
	at       int64  // when it was committed, in microseconds; MariaDB: begun, in whole seconds; 0 for what is none
	before   gtid   // MariaDB: the one before in its domain, behind which it can be read again
	next     uint64 // where the log goes on, of a log without GTIDs
	prepares string // XID of an XA transaction whose first phase it is
	captured bool   // … with changes of captured tables
	decides  string // XID of one whose second phase it is
}

func newProgress(read set) progress {
	return progress{read: read, since: read.none(), prepared: map[string]ended{}}
}

// end notes that a transaction is complete; they come in the log's order.
func (p *progress) end(e ended) error {
	if e.before = (gtid{}); p.read.domains != nil {
		e.before = p.read.newestOf(e.gtid)
	}
	if err := p.read.add(e.gtid, e.next); err != nil {
		return err
	}
	p.since.remove(e.gtid)
	if e.at != 0 {
		p.newest = &e
	}
	if e.prepares != "" {
		p.prepared[e.prepares] = e
	}
	delete(p.prepared, e.decides)
	return nil
}

// all that is complete.
func (p *progress) all() (set, error) {
	s := p.read.clone()
	return s, s.override(p.since)
}

// purge notes what the server has thrown away, all of which is complete. It says which transaction is missed.
func (p *progress) purge(gone set) (missed string, err error) {
	if err := p.read.join(gone); err != nil {
		return "", err
	}
	p.since.subtract(gone)
	if p.newest != nil && gone.has(p.newest.gtid) {
		p.newest = nil
	}
	for xid, e := range p.prepared {
		if gone.has(e.gtid) && e.captured {
			return xid, nil
		}
	}
	return "", nil
}

// start is what the server may leave out.
func (p *progress) start(gone set) (set, error) {
	from := p.read.clone()
	again := slices.Collect(maps.Values(p.prepared))
	if p.newest != nil {
		again = append(again, *p.newest)
	}
	for _, e := range again {
		if gone.has(e.gtid) {
			continue
		}
		if err := from.reopen(e); err != nil {
			return from, err
		}
	}
	return from, nil
}

// String is what parseProgress reads: parts with a letter in front.
func (p *progress) String() string {
	var b strings.Builder
	b.WriteString(p.read.String())
	if b.Len() == 0 {
		b.WriteString("-")
	}
	if !p.since.isEmpty() {
		b.WriteString(";+" + p.since.String())
	}
	if p.newest != nil {
		b.WriteString(";@" + p.newest.String())
	}
	for _, xid := range slices.Sorted(maps.Keys(p.prepared)) {
		letter := ";o"
		if e := p.prepared[xid]; e.captured {
			letter = ";x"
		}
		e := p.prepared[xid]
		b.WriteString(letter + e.String() + "," + xid)
	}
	return b.String()
}

func (e *ended) String() string {
	before := ""
	if e.before.origin != "" {
		before = e.before.String()
	}
	return fmt.Sprintf("%s,%d,%s", e.gtid, e.at, before)
}

// parseProgress reads what String wrote, or a set alone.
func parseProgress(k kind, text string) (progress, error) {
	first, rest, more := strings.Cut(text, ";")
	if first == "-" {
		first = ""
	}
	read, err := parseSet(k, first)
	if err != nil {
		return progress{}, err
	}
	p := newProgress(read)
	for more {
		var part string
		part, rest, more = strings.Cut(rest, ";")
		if part == "" {
			return p, fmt.Errorf("progress %q: a part is empty", text)
		}
		letter, value := part[0], part[1:]
		if letter == '+' {
			if p.since, err = parseSet(k, value); err != nil {
				return p, err
			}
			continue
		}
		f := strings.SplitN(value, ",", 4)
		if len(f) < 3 || (len(f) == 4) != (letter == 'x' || letter == 'o') {
			return p, fmt.Errorf("progress %q: part %q", text, part)
		}
		var e ended
		if e.gtid, err = parseGTID(k, f[0]); err != nil {
			return p, err
		}
		if e.at, err = strconv.ParseInt(f[1], 10, 64); err != nil {
			return p, fmt.Errorf("progress %q: part %q: %w", text, part, err)
		}
		if f[2] != "" {
			if e.before, err = parseGTID(k, f[2]); err != nil {
				return p, err
			}
		}
		switch letter {
		case '@':
			p.newest = &e
		case 'x', 'o':
			e.prepares, e.captured = f[3], letter == 'x'
			p.prepared[f[3]] = e
		default:
			return p, fmt.Errorf("progress %q: part %q", text, part)
		}
	}
	return p, nil
}

// follow adds positions that the stream has reached since. It returns the transaction that is read in part.
func (p *progress) follow(since []event.Position) (open gtid, err error) {
	add := func(g gtid) error {
		if g.number == 0 || p.read.has(g) {
			return nil
		}
		return p.since.add(g, 0)
	}
	for _, q := range since { // a transaction is complete where the next one begins
		g := gtidOf(q)
		if open != g && open.origin != "" {
			if err := add(open); err != nil {
				return open, err
			}
		}
		open = g
		if q.Change == 0 {
			open = gtid{}
			if err := add(g); err != nil {
				return open, err
			}
		}
	}
	return open, nil
}
