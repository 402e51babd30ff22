package mutation

// test is a test as a catcher.
func test(pkg, run string) []Catcher { return []Catcher{{Package: pkg, Run: run}} }

// waiting is a test that finds a mutation by what never comes: it need not wait for it as long as on a busy machine.
func waiting(pkg, run string) []Catcher {
	return []Catcher{{Package: pkg, Run: run, Args: []string{"-patience=20s"}}}
}

// All mutations, from the source to the targets.
var All = []Mutation{
	{
		Name: "drop-1000", Breaks: "the publisher forgets one message in a thousand: changes are lost",
		File: "runtime/stream/chain.go",
		Old:  "\tidle := c.window.empty()\n\tc.sendHeld(false)",
		New:  "\tif event.Hash(append([]byte(m.ID), m.Data...))%1000 == 0 {\n\t\treturn c.window.sent, nil\n\t}\n\tidle := c.window.empty()\n\tc.sendHeld(false)",
		By:   test("./e2e/mutate", "TestManyMessages"),
	},
	{
		Name: "drop-100000", Breaks: "the publisher forgets one message in a hundred thousand",
		File: "runtime/stream/chain.go",
		Old:  "\tidle := c.window.empty()\n\tc.sendHeld(false)",
		New:  "\tif event.Hash(append([]byte(m.ID), m.Data...))%100000 == 0 {\n\t\treturn c.window.sent, nil\n\t}\n\tidle := c.window.empty()\n\tc.sendHeld(false)",
		By:   []Catcher{{Package: "./e2e/mutate", Run: "TestManyMessages", Args: []string{"-messages=400000"}}},
	},
	{
		Name: "no-chain", Breaks: "a message does not say which sequence it follows: what is sent again is stored twice, what is lost is passed",
		File: "runtime/stream/chain.go",
		Old:  "\tset(m.Header, headerExpectedLast, strconv.FormatUint(n-1, 10))",
		New:  "\tset(m.Header, headerExpectedLast, strconv.FormatUint(n-1, 10)[:0])",
		By:   waiting("./runtime/stream", "TestZombieIsFenced"),
	},
	{
		Name: "resend-without-holds", Breaks: "what is not stored is sent again by a process that lost the slot",
		File: "runtime/stream/recover.go",
		Old:  "\tif k.options.Holds == nil {",
		New:  "\tif k.options.Holds == nil || k.Stored() <= k.Sent() {",
		By:   waiting("./runtime/stream", "TestChainEndsWithoutTheSlot"),
	},
	{
		Name: "rewound-unseen", Breaks: "a stream that holds less than it acknowledged is gone on with: changes are lost",
		File: "runtime/stream/recover.go",
		Old:  "\tif last < stored {",
		New:  "\tif last < stored && stored == 0 {",
		By:   waiting("./runtime/stream", "TestChainFindsThatTheStreamWentBack"),
	},
	{
		Name: "skip-fence", Breaks: "a starting agent writes no fence: messages of the one before it that are still on their way are stored between its own",
		File: "capture/start.go",
		Old:  "\tid, err := a.stream.Fence(ctx, p.last, epoch, p.group, strconv.FormatUint(a.cfg.Random(), 36))",
		New:  "\tid, err := event.Writer{Epoch: epoch, Base: p.last}, error(nil)",
		By:   test("./capture", "TestDeath"),
	},
	{
		Name: "half-fence", Breaks: "a fence has one marker, not as many as can be in flight",
		File: "runtime/stream/fence.go",
		Old:  "\tfor i := 1; i <= event.FenceMarkers; i++ {",
		New:  "\tfor i := event.FenceMarkers; i <= event.FenceMarkers; i++ {",
		By:   waiting("./runtime/stream", "TestZombieIsFenced"),
	},
	{
		Name: "position-from-record", Breaks: "the agent goes on from its record in KV, which is behind the stream: changes are published twice",
		File: "capture/start.go",
		Old:  "\tdefault:\n\t\tp.group, p.seen = end.Message.Group, max(p.seen, end.Message.Writer.Epoch)",
		New:  "\tcase rec.found:\n\t\tp.seen = max(p.seen, end.Message.Writer.Epoch)\n\t\tif p.group, err = rec.group(); err != nil {\n\t\t\treturn p, err\n\t\t}\n\tdefault:\n\t\tp.group, p.seen = end.Message.Group, max(p.seen, end.Message.Writer.Epoch)",
		By:   test("./capture", "TestDeath"),
	},
	{
		Name: "group-not-completed", Breaks: "what an agent published of a TRUNCATE before it died is taken for the whole",
		File: "capture/start.go",
		Old:  "\t}\n\tif err := w.recover(ctx, g); err != nil {",
		New:  "\t}\n\tg.K = g.N\n\tif err := w.recover(ctx, g); err != nil {",
		By:   test("./capture", "TestTruncate"),
	},
	{
		Name: "slot-without-horizon", Breaks: "the source releases its log at once, while JetStream may still lose what it acknowledged",
		File: "capture/confirm.go",
		Old:  "\tfor n < len(*waiting) && time.Since((*waiting)[n].since) >= w.a.cfg.Horizon {",
		New:  "\tfor n < len(*waiting) {",
		By:   test("./capture", "TestConfirm"),
	},
	{
		Name: "slot-before-stream", Breaks: "the source releases what was read, not what is stored: a crash loses what was on its way",
		File: "capture/confirm.go",
		Old:  "\tdue := (*waiting)[n-1]",
		New:  "\tdue := (*waiting)[n-1]\n\tdue.position = w.seen",
		By:   test("./capture", "TestConfirm"),
	},
	{
		Name: "chunk-not-visible", Breaks: "a chunk is taken although a transaction that is published is not visible in it: an old row follows its change",
		File: "capture/job.go",
		Old:  "\t\tall := j.w.sees(win, c.Visible)",
		New:  "\t\tall := j.w.sees(win, func(uint64) bool { return true })",
		By:   test("./capture", "TestWaiting"),
	},
	{
		Name: "touched-ignored", Breaks: "rows of a chunk are published although the log has changed them since: they go back",
		File: "capture/chunk.go",
		Old:  "\t\tif _, newer := touched[string(row.Key)]; newer {",
		New:  "\t\tif _, newer := touched[string(row.Key)]; newer && n < 0 {",
		By:   test("./capture", "TestLoadBesideTraffic"),
	},
	{
		Name: "torn-chunk", Breaks: "a chunk is published although its table was truncated since it was read: rows come back",
		File: "capture/chunk.go",
		Old:  "\tif win.torn {\n\t\treturn nil",
		New:  "\tif win.torn && win.bytes < 0 {\n\t\treturn nil",
		By:   test("./capture", "TestTruncatedChunk"),
	},
	{
		Name: "epoch-again", Breaks: "a start does not look for the highest epoch there was: versions go back",
		File: "capture/epoch.go",
		Old:  "\tepoch = max(seen+1, now)",
		New:  "\tepoch = max(1, now)",
		By:   test("./capture", "TestEpochs"),
	},
	{
		Name: "gap-unseen", Breaks: "a slot that was made anew is gone on with: what lies in between is lost",
		File: "capture/start.go",
		Old:  "\tif info.NewSlot && !p.untouched {",
		New:  "\tif info.NewSlot && !p.untouched && p.last == 0 {",
		By:   waiting("./capture", "TestGap"),
	},
	{
		Name: "floor-before-write", Breaks: "the floor moves before the target has confirmed: a crash in between loses changes",
		File: "runtime/host/batch.go",
		Old:  "\treturn l.g.writer.write(ctx, l, sink.Span{Partition: l.place(), After: l.read, To: to, Events: events})",
		New: "\tafter := l.read\n\tl.read = to\n\tif err := l.move(ctx); err != nil {\n\t\treturn err\n\t}\n" +
			"\treturn l.g.writer.write(ctx, l, sink.Span{Partition: l.place(), After: after, To: to, Events: events})",
		By: waiting("./runtime/host", "TestFloorWaitsForTheTarget"),
	},
	{
		Name: "jump-ignored", Breaks: "a jump in the consumer's sequence is not looked at: what was lost on the way is passed",
		File: "runtime/host/consumer.go",
		Old:  "\t\tif p.Consumer != c.sequence+1 {",
		New:  "\t\tif p.Consumer <= c.sequence {",
		By:   waiting("./runtime/host", "TestDeliveriesAreLost"),
	},
	{
		Name: "heartbeat-ignored", Breaks: "a heartbeat that tells of more than what came is not looked at: the last messages of a lost delivery are passed",
		File: "runtime/host/consumer.go",
		Old:  "\t\tif p.Delivered != c.sequence {",
		New:  "\t\tif p.Delivered < c.sequence {",
		By:   waiting("./runtime/host", "TestTheLastDeliveryIsLost"),
	},
	{
		Name: "sequences-not-versions", Breaks: "a floor above a stream that lost its end is compared by its sequence: what is stored below it again is passed",
		File: "runtime/host/check.go",
		Old:  "\tcase ok && fence <= l.read.Sequence:",
		New:  "\tcase ok && fence <= l.read.Sequence && l.read.Sequence == 0:",
		By:   waiting("./runtime/host", "TestTailLoss"),
	},
	{
		Name: "retention-unproven", Breaks: "nobody asks whether retention took messages before they were read",
		File: "runtime/host/check.go",
		Old:  "\tif end.First > l.proven+1 {",
		New:  "\tif end.First > l.proven+1 && sequence == 0 {",
		By:   waiting("./runtime/host", "TestFallsOutOfRetention"),
	},
	{
		Name: "no-lease", Breaks: "a worker that slept does not ask whether its partition is still its own before it writes",
		File: "runtime/host/claim.go",
		Old:  "\tif time.Since(l.confirmed) <= cfg.Lease-cfg.WriteDeadline {",
		New:  "\tif time.Since(l.confirmed) <= cfg.Lease*1000 {",
		By:   test("./runtime/host", "TestWhoHungAsksBeforeItTriesAgain"),
	},
	{
		Name: "barrier-not-awaited", Breaks: "a partition passes a TRUNCATE before the others have come to it: its floor covers what the target has not done",
		File: "runtime/host/truncate.go",
		Old:  "\t\tif outcome == sink.Passed {",
		New:  "\t\tif outcome == sink.Passed || ctx.Err() == nil {",
		By:   waiting("./runtime/host", "TestTruncateWaitsForItsGroup"),
	},
	{
		Name: "no-guard", Breaks: "PostgreSQL's checkpoint is moved from wherever it stands: a worker that was replaced overwrites its successor's rows",
		File: "functions/postgres/handle.go",
		Old:  " AND version = $4 AND NOT closed RETURNING 1)",
		New:  " AND version > $4 - 1000000000000000000 AND NOT closed RETURNING 1)",
		By:   test("./functions/postgres", "TestPostgreSQL/17/(Zombie|Again)"),
	},
	{
		Name: "no-external-version", Breaks: "Elasticsearch takes whatever comes last, however old it is",
		File: "functions/elasticsearch/bulk.go",
		Old:  "\tw.body = append(w.body, `,\"version_type\":\"external_gte\"}}`+\"\\n\"...)",
		New:  "\tw.body = append(w.body[:bytes.LastIndex(w.body, []byte(`,\"version\"`))], \"}}\\n\"...)",
		By:   test("./functions/elasticsearch", "TestSink/NeverBackwards"),
	},
	{
		Name: "item-results-unread", Breaks: "the results of a bulk request's items are not read: what Elasticsearch refused counts as written",
		File: "functions/elasticsearch/bulk.go",
		Old:  "\tdefault:\n\t\treturn functions.Permanent(err)",
		New:  "\tdefault:\n\t\treturn nil",
		By:   test("./functions/elasticsearch", "TestSink/OneBadDocument"),
	},
	{
		Name: "sweep-newer", Breaks: "a sweep in ClickHouse takes newer rows too",
		File: "functions/clickhouse/sweep.go",
		Old:  "FROM %s FINAL WHERE _partition = %d AND _version < %d AND _deleted = 0",
		New:  "FROM %s FINAL WHERE _partition = %d AND _version > 0*%d AND _deleted = 0",
		By:   test("./functions/clickhouse", "TestSink/Sweep"),
	},
}
