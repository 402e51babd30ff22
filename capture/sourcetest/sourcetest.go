// Package sourcetest is the acceptance suite of capture.Source: what its contract promises, tried on a real server, alike for every source.
//
// It speaks the SQL that all servers understand, with names in double quotes. What only one of them has is tested in its own package.
package sourcetest

import (
	"testing"

	"github.com/runnel-dev/runnel/capture"
)

// Suite says how to get at one kind of server.
type Suite struct {
	// Open gives a database that is empty and the test's own, on a server that other tests may use at the same time.
	Open func(t *testing.T) Database

	// Forget gives a database, and a function that makes the server forget the part of its log that a closed reader has not read.
	Forget func(t *testing.T) (d Database, forget func())

	// Load is a statement that writes several rows at once in the server's own way, into a (id int, part varchar, v int).
	Load func(d Database)

	// Wrong are sources whose configuration the server refuses: all but the password is right, and so on.
	Wrong func(d Database) map[string]Wrong
}

// Wrong is a source that cannot work, and what its error says.
type Wrong struct {
	Source capture.Source
	Words  []string
	Secret string // what no error may say
}

// Database is an empty database.
type Database interface {
	Session
	Schema() string                         // of its tables
	Open() Session                          // a session beside the first one
	Source(tables ...string) capture.Source // of these tables, or of all
	Disconnect()                            // ends the sessions by which readers of the source hold it, as the server does when their process dies
}

// Session is a connection to a database.
type Session interface {
	Exec(statements ...string) // one after the other
	Value(sql string) string   // the first column of the first row
}

// Run runs the suite. Each test has its own database.
func Run(t *testing.T, s Suite) {
	for _, tt := range []struct {
		name string
		test func(w *world)
	}{
		{"Changes", changes}, {"Transactions", transactions}, {"CommitOrder", commitOrder}, {"Resume", resume}, {"LargeTransaction", largeTransaction},
		{"Names", names}, {"Keyless", keyless}, {"Structure", structure}, {"OtherTables", otherTables},
		{"SameBytes", sameBytes}, {"Chunks", chunks}, {"Visible", visible}, {"Marks", marks}, {"Beside", beside},
		{"OneReader", oneReader}, {"Disconnected", disconnected}, {"Confirm", confirm}, {"EndOfContext", endOfContext},
		{"Ahead", ahead}, {"Forgotten", forgotten}, {"Wrong", wrong}, {"UnknownTable", unknownTable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.test(&world{t, s})
		})
	}
}

type world struct {
	*testing.T
	suite Suite
}

func (w *world) open(statements ...string) Database {
	w.Helper()
	d := w.suite.Open(w.T)
	d.Exec(statements...)
	return d
}
