// Package postgres reads the log of a PostgreSQL database (14 to 18) through a logical replication slot.
//
// What it promises:
//
//   - Only committed changes, in commit order, each with the position that identifies it: LSN of the commit record, LSN of
//     the change, and a count of the changes with that LSN.
//   - Reading always begins where the slot stands, and what was read before is skipped here: START_REPLICATION with a position
//     of our own would skip silently where the server's log is behind it.
//   - Nothing is confirmed but what Confirm was called with.
//   - One reader: an advisory lock of the replication session is taken before the slot is looked at, and both end together.
//   - Rows have the bytes that row_to_json prints, in the log and in snapshots, with exactly the published columns.
//
// A table's key is its replica identity index under USING INDEX, else its primary key. A table with REPLICA IDENTITY FULL
// and no primary key, or without any replica identity, is keyless: its rows are known by their position alone. The latter
// go to a second publication that has inserts and truncates only, since PostgreSQL refuses the application's UPDATE and
// DELETE of a table that publishes them without a replica identity.
package postgres
