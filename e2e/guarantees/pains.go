package main

// pain is a way in which change data capture has hurt its users, as they reported it of other systems, and why it cannot hurt here:
// tests that show it, or a reason, or the source that will need it.
type pain struct {
	number  string
	hurt    string
	reports []string // addresses
	tests   []string // package and test, a subtest behind a slash
	because string   // there is no test: it cannot happen; else what to know beside the tests
}

const (
	github   = "https://github.com/"
	agent    = "e2e/agent "
	pipeline = "e2e "
	capt     = "capture "
	pg       = "capture/postgres "
	my       = "capture/mysql "
	chain    = "runtime/stream "
	worker   = "runtime/host "
	toES     = "functions/elasticsearch "
	toCH     = "functions/clickhouse "
	toPG     = "functions/postgres TestPostgreSQL/"
)

// pains, by what they do to their users.
var pains = []struct {
	title string
	pains []pain
}{
	{"The log grows, or nothing comes and nobody says so", []pain{
		{"1", "idle tables, and the slot holds back 19 GB", []string{"risingwavelabs/risingwave/issues/16697"}, []string{agent + "TestIdleDatabaseWithBusyNeighbourReleasesTheLog", capt + "TestIdle"}, ""},
		{"2", "the heartbeat's table was in no publication", []string{"Trendyol/go-pq-cdc/issues/136"}, []string{agent + "TestIdleDatabaseWithBusyNeighbourReleasesTheLog"}, "The heartbeat is a message in the log and has no table."},
		{"3", "little traffic, and the log is kept for an hour", []string{"redpanda-data/connect/issues/3198"}, []string{agent + "TestIdleDatabaseWithBusyNeighbourReleasesTheLog", pg + "TestSource"}, "The heartbeat comes every 10 s."},
		{"4", "the reader stalls for ever: \"slot is active for PID\"", []string{"sequinstream/sequin/issues/2141"}, []string{pg + "TestOwnOldSessionIsEnded", pg + "TestSource", "cmd/runnel TestReadiness"}, ""},
		{"5", "the slot grew to 40 GB within days", []string{"toluaina/pgsync/issues/62"}, []string{pg + "TestLostSlot", pipeline + "TestSlotDropped"}, "`runnel doctor` and `describe` show what the slot holds back, and warn from 10 GiB on. With `max_slot_wal_keep_size` the server gives the slot up: that is a gap, which halts."},
		{"6", "writes to other databases let the slot grow", []string{"readysettech/readyset/issues/263"}, []string{agent + "TestIdleDatabaseWithBusyNeighbourReleasesTheLog"}, ""},
		{"7", "the idle slot was advanced to a position that was read elsewhere, and commits were skipped", []string{"firezone/firezone/pull/14213"}, []string{capt + "TestConfirm", pg + "TestConfirm"}, "Nothing calls pg_replication_slot_advance: the slot moves by what came through the log and is stored."},
		{"8", "the connection was dead and the process lived: no events for days", []string{"Trendyol/go-pq-cdc/issues/20"}, []string{agent + "TestDeadConnectionIsNoticed", pg + "TestServerShutsDown"}, ""},
		{"9", "the connection died during a long snapshot, and streaming never began", []string{"Trendyol/go-pq-cdc/issues/54", "ConduitIO/conduit-connector-postgres/issues/181"}, []string{agent + "TestALoadDoesNotHoldTheLog", pg + "TestBusyConsumer"}, ""},
		{"10", "500 GB of log during a snapshot", []string{"airbytehq/airbyte/issues/18573"}, []string{agent + "TestALoadDoesNotHoldTheLog"}, ""},
		{"11", "a table was dropped and made again: the publication is empty, and all lights are green", []string{"doughknee/myscrollr/pull/253"}, []string{agent + "TestPublicationEmptied", pg + "TestDrift"}, "The agent looks once a minute while it runs, and logs an error; published again, the table is read again."},
		{"12", "restart_lsn does not move though the confirmed position does", []string{"airbytehq/airbyte/issues/27647"}, []string{agent + "TestIdleDatabaseWithBusyNeighbourReleasesTheLog", agent + "TestALoadDoesNotHoldTheLog"}, "`runnel describe` shows the confirmed position and what is held back from restart_lsn on. A transaction that stays open holds back both; Runnel does not name it."},
	}},
	{"What was acknowledged too early is lost, what was resumed wrongly comes twice", []pain{
		{"13", "a keepalive moved the slot over what was not acknowledged", []string{"Trendyol/go-pq-cdc/issues/107"}, []string{capt + "TestConfirm", pg + "TestConfirm"}, ""},
		{"14", "several events share one LSN (COPY): the rest was lost at a restart", []string{"debezium/debezium/pull/7531"}, []string{pg + "TestSource"}, ""},
		{"15", "BEGIN has the LSN of the first row: the row was skipped", []string{"debezium/debezium/pull/4152"}, []string{pg + "TestSource"}, ""},
		{"16", "the slot was made again: a silent gap", []string{"debezium/debezium/pull/3970", "estuary/connectors/pull/1653"}, []string{pg + "TestSlotMadeAgainSkipsNothing", pg + "TestGaps", capt + "TestGap/SlotGone", pipeline + "TestSlotDropped"}, ""},
		{"17", "silent loss at a restart: two places remember the position, and they differ", []string{"debezium/dbz/issues/76", "debezium/dbz/issues/51"}, []string{capt + "TestDeath", capt + "TestStaleRecord", capt + "TestRecordLost", pipeline + "TestKillNine"}, "The stream's last message is the position; there is no second one."},
		{"18", "a timer flushed the offset before the checkpoint", []string{"risingwavelabs/risingwave/issues/25071"}, []string{capt + "TestConfirm"}, ""},
		{"19", "the same, elsewhere", []string{"apache/flink-cdc/issues/2538", "apache/flink-cdc/issues/1893", "risingwavelabs/risingwave/issues/14060", "airbytehq/airbyte/issues/55846"}, []string{capt + "TestConfirm", capt + "TestDeaths"}, ""},
		{"20", "the slot was let go before the snapshot's rows were acknowledged", []string{"redpanda-data/connect/pull/4584"}, []string{capt + "TestDeaths", capt + "TestResumedLoad"}, "A chunk counts once the stream has held it for the fsync horizon; so does the load's end."},
		{"21", "a checkpoint within a transaction cannot be resumed from", []string{"redpanda-data/connect/pull/4396"}, []string{my + "TestExecuted", my + "TestFailover", my + "TestSource"}, "Positions are a transaction and an index within it, and reading begins at a transaction."},
		{"22", "the last GTID was saved, not the set", []string{"vnvo/deltaforge/issues/3"}, []string{my + "TestExecuted", my + "TestRemaining"}, "The executed set is what is stored."},
		{"23", "marked as sent before it was sent: the failed one is lost", []string{"Wave-RF/WaveHouse/issues/384"}, []string{chain + "TestChainSurvivesTheNetwork", chain + "TestCloseLeavesAPrefix"}, "Nothing is marked: each message names the sequence before it."},
	}},
	{"Snapshots", []pain{
		{"24", "a recovery dropped changes to rows that had been read", []string{"risingwavelabs/risingwave/issues/27026"}, []string{capt + "TestDeaths", capt + "TestResumedLoad"}, ""},
		{"25", "the window between the watermarks was never read", []string{"apache/seatunnel/pull/11556"}, []string{capt + "TestLoadBesideTraffic", pg + "TestChunkVisible"}, ""},
		{"26", "parallel readers saw different states", []string{"debezium/dbz/issues/2330"}, []string{capt + "TestLoadBesideTraffic", pg + "TestSource"}, "Chunks need no common snapshot: each has its own, and its own mark in the log."},
		{"27", "an exported snapshot does not survive a crash", []string{"ConduitIO/conduit-connector-postgres/pull/316"}, []string{capt + "TestResumedLoad", agent + "TestInterrupted"}, "No transaction is held over chunks. Tables without a key are begun over, with a new slot."},
		{"28", "a snapshot that was interrupted begins from zero", []string{"memiiso/debezium-server-iceberg/issues/747", "Altinity/clickhouse-sink-connector/issues/722", "risingwavelabs/risingwave/issues/10249"}, []string{capt + "TestResumedLoad"}, ""},
		{"29", "an enum in the key: the back-fill crashes again and again", []string{"sequinstream/sequin/issues/2149"}, []string{pg + "TestChunkKeys/Enum", pg + "TestChunkKeys/Collated", pg + "TestChunkExtensionKey"}, ""},
		{"30", "100,000 planned chunks fill the memory", []string{"apache/flink-cdc/issues/865"}, []string{pipeline + "TestMemory"}, "A chunk's end is known once it was read; two are held at a time, and one record per table is kept."},
	}},
	{"Failover", []pain{
		{"31", "the slot is not on the new primary", []string{"PeerDB-io/peerdb/issues/3352"}, []string{pg + "TestFailoverSlot", pg + "TestFailover", pg + "TestFailoverWithoutSlot"}, ""},
		{"32", "a slot that was made again skips data, without an error", []string{"patroni/patroni/issues/1749", "patroni/patroni/issues/1056"}, []string{pg + "TestSlotMadeAgainSkipsNothing", pg + "TestRestoredServer", pg + "TestTimelines"}, ""},
		{"33", "file and position mean nothing on the new MySQL primary", []string{"datazip-inc/olake/issues/1235", "zendesk/maxwell/issues/1043", "apache/flink-cdc/issues/48"}, []string{my + "TestFailover", my + "TestAnotherServer", pipeline + "TestMySQL"}, "Positions are GTIDs; without them they are bound to the server's UUID, and another one is a gap; `scripts/crash --source mysql` and `mariadb` fail over to replicas whose binlogs have other names."},
		{"34", "an orphaned failover slot keeps the next one from being synchronized", []string{"cloudnative-pg/cloudnative-pg/pull/9998"}, []string{pg + "TestDoctorOfFailovers"}, ""},
		{"34b", "a commit was published that the promoted standby never had", []string{"debezium/debezium/blob/main/documentation/modules/ROOT/pages/connectors/postgresql.adoc"}, []string{pg + "TestFailoverOfAPhantom", pg + "TestRestoredServer"}, "It is a gap, which halts; `synchronized_standby_slots` avoids it."},
	}},
	{"Memory and large transactions", []pain{
		{"35", "a transaction of 337 MB: heartbeats time out, again and again", []string{"zendesk/maxwell/issues/1711"}, []string{pipeline + "TestWideRowsAreBoundedInBytes", pg + "TestBusyConsumer"}, ""},
		{"36", "out of memory", []string{"zendesk/maxwell/issues/816", "zendesk/maxwell/issues/1100", "sequinstream/sequin/issues/881"}, []string{pipeline + "TestWideRowsAreBoundedInBytes", pipeline + "TestMemory"}, ""},
		{"37", "a queue is bounded in rows: 8,192 of 2 MB are 16 GB", []string{"apache/doris/pull/64511", "airbytehq/airbyte/issues/26454"}, []string{pipeline + "TestWideRowsAreBoundedInBytes", pg + "TestChunkBytes", chain + "TestChainWindow"}, ""},
		{"38", "a streamed transaction is held in memory until its commit", []string{"Trendyol/go-pq-cdc/blob/main/docs/PROTO_VERSION_SUPPORT.md"}, []string{pg + "TestOneLargeTransaction", pipeline + "TestMemory"}, "Protocol 1: the server keeps what is not committed."},
		{"39", "NATS takes no payload above 1 MB", []string{"slotix/dbconvert-streams-public/issues/7"}, []string{agent + "TestRowsOf64MB", pipeline + "TestLargeRow", chain + "TestLargeMessage", worker + "TestPayloadIsLost"}, ""},
	}},
	{"Values", []pain{
		{"40", "an unchanged TOAST value overwrites good data", []string{"confluentinc/kafka-connect-jdbc/issues/1242", "memiiso/debezium-server-iceberg/issues/196", "datazip-inc/olake/issues/1175", "ClickHouse/ClickHouse/issues/83517"}, []string{pg + "TestToast", pg + "TestToastUnderSynchronousReplication", toPG + "Unavailable", toES + "TestSink/Unavailable", toCH + "TestSink/Unavailable"}, ""},
		{"41", "PARTIAL_UPDATE_ROWS_EVENT was dropped silently", []string{"PeerDB-io/peerdb/pull/4538", "dbtrail/dbtrail/issues/777", "estuary/connectors/issues/3128", "debezium/debezium/pull/3912"}, []string{my + "TestRefused/PartialJSON", my + "TestDoctor"}, "It ends the agent, with the statement that changes the setting."},
		{"42", "today's structure was used for an old binlog: columns are shifted", []string{"go-mysql-org/go-mysql/issues/905", "alibaba/canal/issues/380", "alibaba/canal/issues/1029"}, []string{pg + "TestStructureChanges", pg + "TestDroppedTable", my + "TestStructure", my + "TestSource"}, "PostgreSQL's log describes its rows. MySQL's says the names with `binlog_row_metadata=FULL`; else they are held against each description of a table in the log, and what does not fit ends the agent."},
		{"43", "the DDL could not be parsed", []string{"airbytehq/airbyte/issues/9196"}, []string{pg + "TestStructureChanges"}, "No DDL is parsed."},
		{"44", "infinity, NaN and arrays of intervals are left out or fail", []string{"debezium/debezium/pull/7382", "risingwavelabs/risingwave/issues/16395", "airbytehq/airbyte/pull/78305", "risingwavelabs/risingwave/issues/16882"}, []string{"capture/postgres/pgjson TestOracle", toES + "TestSink/MalformedStaysInSource", toCH + "TestSink/NothingIsClamped", toPG + "Types", my + "TestOracle"}, "Zero dates of MySQL are null."},
		{"45", "dates were clamped to 1900–2299, what may be NULL became NOT NULL", []string{"PeerDB-io/peerdb/pull/4534", "PeerDB-io/peerdb/issues/1715"}, []string{toCH + "TestSink/NothingIsClamped", toCH + "TestEveryTypeIsExact"}, ""},
	}},
	{"Targets", []pain{
		{"46", "deleted and inserted again, rows were lost: the version was another one at each delivery", []string{"Altinity/clickhouse-sink-connector/issues/1346"}, []string{toCH + "TestSink/DeletedAndInsertedAgain", "runtime/event TestVersionsAreStored", "runtime/event TestVersionGrowsAlongTheStream"}, ""},
		{"47", "a deleted row has zeros for the columns it is sorted by", []string{"PeerDB-io/peerdb/issues/2058"}, []string{toCH + "TestSink/DeletesAreCleanedUp"}, ""},
		{"48", "a changed primary key leaves the old row", []string{"PeerDB-io/peerdb/pull/2113"}, []string{pg + "TestReplicaIdentities", pipeline + "TestMainJob"}, ""},
		{"49", "deleted rows are never removed", []string{"PeerDB-io/peerdb/pull/4687"}, []string{toCH + "TestSink/DeletesAreCleanedUp"}, "`<table>_live` hides them; `OPTIMIZE TABLE … FINAL CLEANUP` removes them, and may run only once nothing older can come again."},
		{"50", "Elasticsearch forgets deletes, and a late write raises the dead", []string{"elastic/elasticsearch/issues/101178", "confluentinc/kafka-connect-elasticsearch/pull/422"}, []string{toES + "TestTombstonesAfterANodeRestart", toES + "TestSink/NeverBackwards", toES + "TestSink/Settings"}, ""},
		{"51", "one item of a bulk failed, and all was acknowledged", []string{"alibaba/canal/issues/2852", "alibaba/canal/issues/2513", "alibaba/canal/issues/5415", "alibaba/canal/issues/4741", "alibaba/canal/issues/4854"}, []string{toES + "TestSink/OneBadDocument", toES + "TestBusyServer", worker + "TestBatchErrorKeepsTheOrderOfKeys"}, ""},
		{"52", "the target should stop on errors; rows were found missing weeks later", []string{"Altinity/clickhouse-sink-connector/issues/1230"}, []string{worker + "TestEventIsBuried", worker + "TestRefusalsInARowHaltAndNameTheEvent", worker + "TestFallsOutOfRetention", toCH + "TestSink/OneBadRow"}, ""},
		{"53", "one bad target stops all that share the slot, or lets it grow", []string{"sequinstream/sequin/issues/2154", "spiceai/spiceai/pull/12091"}, []string{pipeline + "TestElasticsearchAway", pipeline + "TestUnfitTarget", worker + "TestAnotherFunctionIsNotDelayed", "cmd/runnel TestReadiness"}, ""},
		{"54", "it stops silently, and documents are missing", []string{"toluaina/pgsync/issues/343", "toluaina/pgsync/issues/344", "toluaina/pgsync/issues/211"}, []string{"cmd/runnel TestReadiness", worker + "TestDeliveriesAreLost", pipeline + "TestMainJob"}, ""},
		{"55", "rows are missing where tasks run in parallel", []string{"ClickHouse/clickhouse-kafka-connect/issues/132"}, []string{toCH + "TestSink/RepeatedInsertIsOne", toCH + "TestSink/TwoStructuresInOneBatch", worker + "TestCombinerGetsTheSpansOfAllPartitions"}, ""},
	}},
	{"JetStream itself", []pain{
		{"J1", "it acknowledges before fsync: a power loss takes back what was acknowledged", []string{"nats-io/nats-server/issues/7564", "nats-io/nats-server/issues/7567", "nats-io/nats-server/issues/7545"}, []string{pipeline + "TestJetStreamRolledBack", capt + "TestRewound", capt + "TestConfirm", chain + "TestChainFindsThatTheStreamWentBack", worker + "TestTailLoss"}, ""},
		{"J2", "the window in which duplicates are known passes", []string{"nats-io/nats-server/issues/7302", "nats-io/nats-server/issues/4459"}, []string{chain + "TestChainSurvivesRestarts", capt + "TestDeath"}, "Nothing relies on it."},
		{"J3", "deliveries come again out of order, and late acknowledgements count", []string{"nats-io/nats-server/issues/6114", "nats-io/nats-server/issues/4786", "nats-io/nats-server/issues/7106"}, []string{worker + "TestDeliveriesAreLost", worker + "TestConsumerIsDeleted", worker + "TestASleeperDoesNotWriteAfterItsLease"}, "A consumer has one reader and is thrown away at the first doubt; nothing is ever nak'ed."},
	}},
}
