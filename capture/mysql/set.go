package mysql

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/google/uuid"

	"github.com/runnel-dev/runnel/runtime/event"
)

// gtid names a transaction: server UUID and number, or MariaDB's `domain-server` and number.
type gtid struct {
	origin string
	number uint64
}

func (g gtid) String() string {
	sep := ":"
	if len(g.origin) < uuidLength {
		sep = "-"
	}
	return g.origin + sep + strconv.FormatUint(g.number, 10)
}

const uuidLength = 36

// end is the place after the transaction.
func (g gtid) end() event.Position { return event.Position{Origin: g.origin, Commit: g.number} }

func gtidOf(p event.Position) gtid { return gtid{p.Origin, p.Commit} }

// parseGTID reads what String printed.
func parseGTID(k kind, text string) (gtid, error) {
	sep := ":"
	if k == domainSets {
		sep = "-"
	}
	i := max(strings.LastIndex(text, sep), 0)
	g := gtid{origin: text[:i]}
	var err error
	switch k {
	case uuidSets:
		_, err = uuid.Parse(g.origin)
	case domainSets:
		_, _, err = parseOrigin(g.origin)
	case placeSets:
		if !strings.HasPrefix(g.origin, placePrefix) {
			err = fmt.Errorf("origin %q: want %s<server UUID>", g.origin, placePrefix)
		}
	}
	if err == nil {
		g.number, err = strconv.ParseUint(strings.TrimPrefix(text[i:], sep), 10, 64)
	}
	if err != nil {
		return gtid{}, fmt.Errorf("transaction %q: %w", text, err)
	}
	return g, nil
}

// kind of a server's names for transactions.
type kind uint8

const (
	uuidSets   kind = iota // MySQL's GTIDs
	domainSets             // MariaDB's
	placeSets              // MySQL without GTIDs
)

// set is a set of transactions: of MySQL intervals of each server, of MariaDB the newest transaction of each domain, which stands for all
// before it there; without GTIDs all up to a place.
type set struct {
	mysql   *mysql.MysqlGTIDSet
	domains map[uint32]domain
	places  *places
}

type domain struct {
	server uint32
	number uint64
}

// parseSet reads what the server or String printed.
func parseSet(k kind, text string) (set, error) {
	text = strings.Join(strings.Fields(text), "")
	switch k {
	case uuidSets:
		g, err := mysql.ParseMysqlGTIDSet(text)
		if err != nil {
			return set{}, fmt.Errorf("GTID set %q: %w", text, err)
		}
		return set{mysql: g.(*mysql.MysqlGTIDSet)}, nil
	case placeSets:
		p, err := parsePlaces(text)
		return set{places: &p}, err
	case domainSets:
	}
	s := set{domains: map[uint32]domain{}}
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		f := strings.Split(part, "-")
		if len(f) != 3 {
			return set{}, fmt.Errorf("GTID %q: want domain-server-number", part)
		}
		id, err := strconv.ParseUint(f[0], 10, 32)
		server, err2 := strconv.ParseUint(f[1], 10, 32)
		number, err3 := strconv.ParseUint(f[2], 10, 64)
		if err != nil || err2 != nil || err3 != nil {
			return set{}, fmt.Errorf("GTID %q: want domain-server-number", part)
		}
		s.domains[uint32(id)] = domain{uint32(server), number}
	}
	return s, nil
}

func (s set) clone() set {
	switch {
	case s.mysql != nil:
		return set{mysql: s.mysql.Clone().(*mysql.MysqlGTIDSet)}
	case s.places != nil:
		p := *s.places
		return set{places: &p}
	}
	return set{domains: maps.Clone(s.domains)}
}

// none is an empty set of the same kind.
func (s set) none() set {
	switch {
	case s.mysql != nil:
		g := mysql.NewMysqlGTIDSet()
		return set{mysql: &g}
	case s.places != nil:
		return set{places: &places{origin: s.places.origin}}
	}
	return set{domains: map[uint32]domain{}}
}

func (s set) isEmpty() bool {
	switch {
	case s.mysql != nil:
		return s.mysql.IsEmpty()
	case s.places != nil:
		return s.places.through == 0
	}
	return len(s.domains) == 0
}

func (s set) String() string {
	switch {
	case s.mysql != nil:
		return s.mysql.String()
	case s.places != nil:
		return s.places.String()
	}
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(s.domains)) {
		d := s.domains[id]
		parts = append(parts, fmt.Sprintf("%d-%d-%d", id, d.server, d.number))
	}
	return strings.Join(parts, ",")
}

// add adds a transaction that is complete; next is where a log without GTIDs goes on, if that is known.
func (s set) add(g gtid, next uint64) error {
	if s.places != nil {
		s.places.through, s.places.next = max(s.places.through, g.number), max(s.places.next, next)
		return nil
	}
	if s.mysql != nil {
		u, err := uuid.Parse(g.origin)
		if err != nil {
			return fmt.Errorf("GTID %s: %w", g, err)
		}
		s.mysql.AddGTID(u, int64(g.number))
		return nil
	}
	id, server, err := parseOrigin(g.origin)
	if err == nil {
		s.domains[id] = domain{server, g.number}
	}
	return err
}

func parseOrigin(origin string) (id, server uint32, err error) {
	a, b, _ := strings.Cut(origin, "-")
	x, err := strconv.ParseUint(a, 10, 32)
	y, err2 := strconv.ParseUint(b, 10, 32)
	if err != nil || err2 != nil {
		return 0, 0, fmt.Errorf("origin %q: want domain-server", origin)
	}
	return uint32(x), uint32(y), nil
}

func (d domain) of(id uint32) gtid { return gtid{fmt.Sprintf("%d-%d", id, d.server), d.number} }

// size is how many transactions a set of MySQL's has.
func (s set) size() int {
	n := 0
	if s.mysql != nil {
		for _, tags := range *s.mysql {
			for _, intervals := range tags {
				for _, i := range intervals {
					n += int(i.Stop - i.Start)
				}
			}
		}
	}
	return n
}

// newestOf is the newest transaction in the domain of another one.
func (s set) newestOf(g gtid) gtid {
	id, _, err := parseOrigin(g.origin)
	d, ok := s.domains[id]
	if err != nil || !ok {
		return gtid{}
	}
	return d.of(id)
}

// remove takes a transaction out; a newer one stays for those before it.
func (s set) remove(g gtid) {
	switch {
	case s.mysql != nil:
		if u, err := uuid.Parse(g.origin); err == nil {
			s.subtract(set{mysql: &mysql.MysqlGTIDSet{u: {mysql.Tag{}: {{Start: int64(g.number), Stop: int64(g.number) + 1}}}}})
		}
	case s.places != nil:
		if g.number >= s.places.through {
			s.places.through = 0
		}
	default:
		if s.newestOf(g) == g {
			id, _, _ := parseOrigin(g.origin)
			delete(s.domains, id)
		}
	}
}

// subtract takes all out that another set has.
func (s set) subtract(o set) {
	switch {
	case s.mysql != nil:
		for id, tags := range *o.mysql {
			for tag, out := range tags {
				if left := without((*s.mysql)[id][tag], out); len(left) > 0 {
					(*s.mysql)[id][tag] = left
				} else if delete((*s.mysql)[id], tag); len((*s.mysql)[id]) == 0 {
					delete(*s.mysql, id)
				}
			}
		}
	case s.places != nil:
		if s.places.through <= o.places.through {
			s.places.through = 0
		}
	default:
		for id, d := range o.domains {
			if s.domains[id].number <= d.number {
				delete(s.domains, id)
			}
		}
	}
}

// without is what intervals are left without others.
func without(from, out mysql.IntervalSlice) mysql.IntervalSlice {
	for _, o := range out {
		var left mysql.IntervalSlice
		for _, i := range from {
			if i.Start < o.Start {
				left = append(left, mysql.Interval{Start: i.Start, Stop: min(i.Stop, o.Start)})
			}
			if i.Stop > o.Stop {
				left = append(left, mysql.Interval{Start: max(i.Start, o.Stop), Stop: i.Stop})
			}
		}
		from = left
	}
	return from
}

// reopen takes out as much as it takes to be sent a transaction again.
func (s set) reopen(e ended) error {
	switch {
	case s.mysql != nil:
		s.remove(e.gtid)
	case s.places != nil:
		s.places.next = min(s.places.next, e.gtid.number)
	default:
		id, _, err := parseOrigin(e.gtid.origin)
		if err != nil {
			return err
		}
		if e.before.origin == "" {
			delete(s.domains, id)
			return nil
		}
		_, server, err := parseOrigin(e.before.origin)
		if d, ok := s.domains[id]; ok && e.before.number < d.number {
			s.domains[id] = domain{server, e.before.number}
		}
		return err
	}
	return nil
}

// has says whether the transaction is in the set.
func (s set) has(g gtid) bool {
	if s.places != nil {
		return g.number <= s.places.through
	}
	if s.mysql != nil {
		u, err := uuid.Parse(g.origin)
		if err != nil {
			return false
		}
		one := mysql.NewMysqlGTIDSet()
		one.AddGTID(u, int64(g.number))
		return s.mysql.Contain(&one)
	}
	id, _, err := parseOrigin(g.origin)
	return err == nil && g.number <= s.domains[id].number
}

// contains says whether all of another set is in this one.
func (s set) contains(o set) bool {
	switch {
	case s.mysql != nil:
		return s.mysql.Contain(o.mysql)
	case s.places != nil:
		return max(s.places.next, s.places.through) >= o.places.next
	}
	for id, d := range o.domains {
		if d.number > s.domains[id].number {
			return false
		}
	}
	return true
}

// override adds all of another set, which is newer.
func (s set) override(o set) error {
	if s.domains == nil {
		return s.join(o)
	}
	maps.Copy(s.domains, o.domains)
	return nil
}

// join adds all of another set.
func (s set) join(o set) error {
	switch {
	case s.mysql != nil:
		if o.mysql.IsEmpty() {
			return nil
		}
		return s.mysql.Update(o.mysql.String())
	case s.places != nil:
		s.places.through, s.places.next = max(s.places.through, o.places.through), max(s.places.next, o.places.next)
		return nil
	}
	for id, d := range o.domains {
		if d.number > s.domains[id].number {
			s.domains[id] = d
		}
	}
	return nil
}

// newest is some transaction of the set to name it by; that of an origin, if it is there.
func (s set) newest(origin string) event.Position {
	best := event.Position{Origin: origin}
	if s.places != nil {
		best.Commit = s.places.through
		return best
	}
	if s.mysql != nil {
		for part := range strings.SplitSeq(s.mysql.String(), ",") {
			f := strings.Split(part, ":")
			_, last, ok := strings.Cut(f[len(f)-1], "-")
			if !ok {
				last = f[len(f)-1]
			}
			n, err := strconv.ParseUint(last, 10, 64)
			if err == nil && (f[0] == origin || best.Commit == 0) {
				best = event.Position{Origin: f[0], Commit: n}
			}
			if f[0] == origin {
				return best
			}
		}
		return best
	}
	own, _, err := parseOrigin(origin)
	for _, id := range slices.Sorted(maps.Keys(s.domains)) {
		if d := s.domains[id]; best.Commit == 0 || err == nil && id == own {
			best = event.Position{Origin: fmt.Sprintf("%d-%d", id, d.server), Commit: d.number}
		}
	}
	return best
}
