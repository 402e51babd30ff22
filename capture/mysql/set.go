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
	if len(g.origin) != uuidLength {
		sep = "-"
	}
	return g.origin + sep + strconv.FormatUint(g.number, 10)
}

const uuidLength = 36

// end is the place after the transaction.
func (g gtid) end() event.Position { return event.Position{Origin: g.origin, Commit: g.number} }

func gtidOf(p event.Position) gtid { return gtid{p.Origin, p.Commit} }

// set is a set of transactions: of MySQL intervals of each server, of MariaDB the newest transaction of each domain, which stands for all
// before it there.
type set struct {
	mysql   *mysql.MysqlGTIDSet
	domains map[uint32]domain
}

type domain struct {
	server uint32
	number uint64
}

// parseSet reads what the server or String printed.
func parseSet(flavor, text string) (set, error) {
	text = strings.Join(strings.Fields(text), "")
	if flavor == MySQL {
		g, err := mysql.ParseMysqlGTIDSet(text)
		if err != nil {
			return set{}, fmt.Errorf("GTID set %q: %w", text, err)
		}
		return set{mysql: g.(*mysql.MysqlGTIDSet)}, nil
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
	if s.mysql != nil {
		return set{mysql: s.mysql.Clone().(*mysql.MysqlGTIDSet)}
	}
	return set{domains: maps.Clone(s.domains)}
}

func (s set) String() string {
	if s.mysql != nil {
		return s.mysql.String()
	}
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(s.domains)) {
		d := s.domains[id]
		parts = append(parts, fmt.Sprintf("%d-%d-%d", id, d.server, d.number))
	}
	return strings.Join(parts, ",")
}

// add adds a transaction that is complete.
func (s set) add(g gtid) error {
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

// has says whether the transaction is in the set.
func (s set) has(g gtid) bool {
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
	if s.mysql != nil {
		return s.mysql.Contain(o.mysql)
	}
	for id, d := range o.domains {
		if d.number > s.domains[id].number {
			return false
		}
	}
	return true
}

// join adds all of another set.
func (s set) join(o set) error {
	if s.mysql != nil {
		if o.mysql.IsEmpty() {
			return nil
		}
		return s.mysql.Update(o.mysql.String())
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
