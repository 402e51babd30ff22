package main

// promise is one of those of the README, what judges it in every run under faults, and tests that show it alone.
type promise struct {
	name, text string
	judged     string
	tests      []string
}

var promises = []promise{
	{"No gap", "Every committed change of a captured table reaches the stream, in commit order. Where that is impossible, the agent stops and says so.",
		"`lost`, `disordered`: the stream, read back, against a journal that the source wrote in the same transactions",
		[]string{capt + "TestDeaths", capt + "TestGap", agent + "TestPublicationEmptied", pipeline + "TestKillNine"}},
	{"No duplicate in the stream", "No crash or retry stores a change twice, however much later.",
		"`duplicated`: the same journal", []string{chain + "TestChainSurvivesTheNetwork", chain + "TestChainSurvivesRestarts", pg + "TestSource"}},
	{"One writer", "Two agents never interleave; the second waits, and a zombie is fenced.",
		"`disordered`: epochs, fences and chains of the messages that are stored", []string{chain + "TestZombieIsFenced", capt + "TestZombie", pg + "TestSource"}},
	{"A target never goes backwards", "An older or repeated event never overwrites a newer one.",
		"`backwards`: readers that sample the targets all the while", []string{toES + "TestSink/NeverBackwards", toCH + "TestSink/Conformance", toPG + "Conformance", worker + "TestASleeperDoesNotWriteAfterItsLease"}},
	{"Ack after durable", "The source's log is released only after JetStream holds the change, fsync included; a checkpoint moves only after the target confirmed.",
		"`lost`: nothing below a checkpoint that the target lacks, nothing released that the stream lacks", []string{capt + "TestConfirm", worker + "TestTailLoss", toPG + "Restored", pipeline + "TestJetStreamRolledBack"}},
	{"A failing target hurts only itself", "Never the source's log or another function.",
		"`disordered`: how far all else was behind while one target was away", []string{pipeline + "TestElasticsearchAway", pipeline + "TestUnfitTarget", worker + "TestAnotherFunctionIsNotDelayed"}},
	{"Same change, same bytes", "On every machine, every time.",
		"`differing`: each row of each target against the source, value by value", []string{"capture/postgres/pgjson TestOracle", "runtime/event TestTwoProcessesGiveIdenticalBytes", toES + "TestSink/EveryTypeIsExact", toCH + "TestEveryTypeIsExact", toPG + "Types"}},
}

// limits are what is not promised.
var limits = []struct{ title, text string }{
	{"A JetStream that fsyncs later than the horizon says", "The horizon is twice NATS' `sync_interval` and a second: 1.2 s with the embedded server, 4 minutes for an external one with its default of 2 minutes. Set `RUNNEL_NATS_SYNC_INTERVAL` lower than your servers have it, and a power loss of the servers can lose changes that the source has released."},
	{"A JetStream that is put back further than the horizon", "Restored from a backup, or with its files gone, it lacks what the source has released: the agent finds that, halts, and says `--resnapshot`, which reads all tables again. Nothing is lost in silence; but what was deleted or changed between is not seen as changes. Where nothing at all is left, or an order of `--resnapshot` was on its way, order that yourself; and the source's clock must not have gone back since, as new epochs come from it. The same where a stream is deleted right after a power loss took the agent's record."},
	{"A failover of the source together with a power loss of JetStream", "A change that both have lost, and a target has shown, is known to nobody any more: after a failover that lost transactions start once with `--resnapshot`."},
	{"A source that is put back while no agent runs", "A source restored from a cold copy is found by its log: it ends before what was published, or has another change in its place. Where nothing was captured since before the copy, and more was written since than the log had grown, nothing shows it: order `--resnapshot` after a restore."},
	{"Changes twice after such a loss", "What JetStream lost and the agent published again comes to functions twice, the second time with newer versions. Targets end right; user code sees both. The same for what retention removed while no agent ran."},
	{"ClickHouse without fsync", "It confirms inserts that it has not fsynced. A power loss of its server can take them, below a checkpoint: set `fsync_after_insert`, or use replicas."},
	{"Elasticsearch after `gc_deletes`", "It forgets the versions of deleted documents after an hour (on our indexes), and when a shard is opened anew. A write that was late for so long in a dead worker's socket would raise the dead. What Runnel itself sends again comes in order and ends right."},
	{"User code", "A handler of yours gets each event at least once, and no guard stands behind it: two workers can run it for one partition for up to a second."},
	{"Order between keys", "It holds per key. Rows of one transaction that differ in their key can be seen one after the other."},
	{"Tables without a key", "They are loaded once; updates and deletes are captured under REPLICA IDENTITY FULL alone, and then an update adds a row in Elasticsearch and ClickHouse."},
	{"What sends no events", "`ADD COLUMN … DEFAULT`, rewrites, TRUNCATE or DETACH of a single partition; of MySQL and MariaDB also what foreign keys do (`ON DELETE CASCADE`), which is in no binlog ([sources.md](sources.md)): targets differ until all is read again."},
	{"A MySQL or MariaDB that is restored under its old name, from a copy of the agent's last second, and counts on", "Restored to the past it lacks what was published, which is a gap. Where it gives the GTIDs of the missing transactions to others before the agent asks again, under the same server UUID or server id, the newest transaction of the record, which is written each second, shows it by the time of its commit (`TestRestored`). A copy that has that one and lacks what was published after it passes for the old server, as does one whose binlog no longer has it: run once with `--resnapshot` after such a restore."},
	{"Targets that others write to", "Runnel compares nothing with what it wrote. Rows that somebody else changed or deleted stay so until the source's next change of them."},
	{"A row that a target cannot write within a minute", "A write has 6 s, a single row up to ten times that. For what takes longer still its function shows as stalled, and tries without end. Rows of 30 MB are tested into PostgreSQL, of 64 MB up to the stream; a handler of yours has 6 s for an event."},
	{"Retention", "A function that is away for longer than the stream holds messages halts, says so, and is filled again by `--resnapshot`."},
}
