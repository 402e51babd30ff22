// Package mysql is MySQL 8 and MariaDB as sources: it reads the binlog as a replica does, with GTIDs, and tables beside it.
//
// It promises:
//   - Every committed change of a captured table comes in the order of the binlog, with a position that a failover keeps: GTID and
//     the number of the row in its transaction, whatever is captured. (A MySQL without GTIDs has places in its binlog, which no failover keeps.)
//   - It goes on with exactly the transactions that were not read, on this server or on another one that has those that were. Where
//     the server no longer has them, or has others of the same names, it says so: *capture.GapError.
//   - The rows of an XA transaction are given where its second phase commits them.
//   - A row has the same bytes in the log and in a chunk; see package myjson.
//   - What it cannot read exactly ends it with a statement that changes that, and never passes: statements instead of rows, row
//     images without all columns, partial JSON, a structure that does not fit.
//
// No server keeps its binlog for a reader: how long is the server's own setting (binlog_expire_logs_seconds).
//
// Start in source.go; log.go and decode.go read the log, structure.go says what its columns are, chunk.go reads tables.
package mysql
