package mysql

import (
	"fmt"
	"time"
)

// A start reads the newest transaction again, and the first phases of XA transactions that wait for their second one. Where the server cannot
// leave out others beside these, they come again too, and are passed.

// meet says what may come again, where the server leaves out from.
func (d *decoder) meet(p *progress, from, gone set) {
	d.read, d.since, d.expected = p.read.clone(), p.since.clone(), map[gtid]int64{}
	again := make([]ended, 0, len(p.prepared)+1)
	for xid, e := range p.prepared {
		if gone.has(e.gtid) {
			d.xas[xid] = nil
			continue
		}
		again = append(again, e)
	}
	if p.newest != nil {
		again = append(again, *p.newest)
	}
	for _, e := range again {
		d.expected[e.gtid] = e.at
	}
	switch d.log.server.kind {
	case uuidSets:
		d.left = len(d.expected) + d.since.size()
	case domainSets:
		d.until = map[uint32][2]gtid{}
		for id, n := range d.read.domains {
			if from.domains[id] != n {
				d.until[id] = [2]gtid{n.of(id), d.until[id][1]}
			}
		}
		for id, n := range d.since.domains {
			d.until[id] = [2]gtid{d.until[id][0], n.of(id)}
		}
	case placeSets:
	}
}

// meets says of a transaction that begins whether it comes again, and holds it against what was read.
func (d *decoder) meets(g gtid, at int64) error {
	var err error
	if d.tx.known, d.tx.again, err = d.cameBefore(g); err != nil {
		return err
	}
	if was, ok := d.expected[g]; ok {
		delete(d.expected, g)
		if was != at && d.comparable(g) {
			return d.log.source.gap("transaction %s was committed at %s, and the one that was published under this name at %s: the server was restored to the past and has written on since, "+
				"or was set up anew", g, when(at), when(was))
		}
	}
	if d.log.server.kind == placeSets && !d.tx.again {
		for missed := range d.expected {
			return d.log.source.gap("the binlog has no transaction at %d:%d any more, where one was read: it was begun anew, or the server was restored to the past and has written on since",
				placeAt(missed.number).file, placeAt(missed.number).at)
		}
	}
	return nil
}

func when(at int64) string { return time.UnixMicro(at).UTC().Format(time.RFC3339Nano) }

// comparable says whether a transaction has the time of its commit on this server too. MariaDB's may have another one on a replica.
func (d *decoder) comparable(g gtid) bool {
	if d.log.server.kind != domainSets {
		return true
	}
	_, server, err := parseOrigin(g.origin)
	return err == nil && fmt.Sprint(server) == d.log.server.id
}

// cameBefore says whether a transaction is complete, and whether the set says so that was recorded.
func (d *decoder) cameBefore(g gtid) (known, recorded bool, err error) {
	switch d.log.server.kind {
	case uuidSets:
		if d.left == 0 {
			return false, false, nil
		}
		if d.since.has(g) {
			d.left--
			return true, false, nil
		}
		if _, ok := d.expected[g]; ok {
			d.left--
			return true, true, nil
		}
	case domainSets:
		id, _, err := parseOrigin(g.origin)
		if err != nil {
			return false, false, err
		}
		last := d.until[id]
		for n := range last {
			if last[n].origin == "" {
				continue
			}
			if g == last[n] {
				last[n] = gtid{}
				d.until[id] = last
			} else if g.number > last[n].number {
				return false, false, d.log.source.gap("the log goes on with transaction %s, and %s was read", g, last[n])
			}
			return true, n == 0, nil
		}
	case placeSets:
		return d.read.has(g) || d.since.has(g), d.read.has(g), nil
	}
	return false, false, nil
}
