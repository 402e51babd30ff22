// Package failpoint marks the steps of the flow at which the crash tests end, freeze or delay a process. A normal build has none of
// it; one with the tag "failpoints" is steered by the environment:
//
//	RUNNEL_FAILPOINTS=chain.published=kill@137,floor.moved=stop@3,write.before=sleep:300ms@5
//
// The n-th time that the step is reached, the process sends itself SIGKILL or SIGSTOP, or the goroutine sleeps. An unknown name
// ends the process at its start. RUNNEL_SETTLE=6s shortens what an agent waits before it releases anything of the source's log.
package failpoint

// SettleVariable names the environment's RUNNEL_SETTLE.
const SettleVariable = "RUNNEL_SETTLE"

// Name of a failpoint.
type Name string

// The capture agent, in the order of its work.
const (
	StartReached  Name = "start.reached"
	StartAcquired Name = "start.acquired"
	StartResumed  Name = "start.resumed"
	FenceBefore   Name = "fence.before"
	FenceAfter    Name = "fence.after"
	StartRecorded Name = "start.recorded"
	StartChecked  Name = "start.checked"
	StartPrepared Name = "start.prepared"

	LogReceived    Name = "log.received"
	LogEncoded     Name = "log.encoded"
	ChainPublished Name = "chain.published"
	GroupPiece     Name = "group.piece"
	ChainStored    Name = "chain.stored"
	RecordBefore   Name = "record.before"
	RecordAfter    Name = "record.after"
	SlotBefore     Name = "slot.before"
	SlotAfter      Name = "slot.after"
	MarkPublished  Name = "mark.published"

	LoadBegun      Name = "load.begun"
	ChunkRead      Name = "chunk.read"
	ChunkMarked    Name = "chunk.marked"
	ChunkPublished Name = "chunk.published"
	ChunkCounted   Name = "chunk.counted"
	LoadSwept      Name = "load.swept"
	LoadEnded      Name = "load.ended"

	BackfillRead Name = "backfill.read"
	BackfillDone Name = "backfill.done"
)

// Workers, in the order of their work.
const (
	ClaimBefore         Name = "claim.before"
	ClaimAfter          Name = "claim.after"
	ConsumerOpened      Name = "consumer.opened"
	Fetched             Name = "fetched"
	WriteBefore         Name = "write.before"
	WriteAfter          Name = "write.after"
	WriteDurable        Name = "write.durable"
	ConsumerAcked       Name = "consumer.acked"
	FloorBefore         Name = "floor.before"
	FloorAfter          Name = "floor.after"
	BarrierBefore       Name = "barrier.before"
	BarrierAfter        Name = "barrier.after"
	SweepBefore         Name = "sweep.before"
	SweepAfter          Name = "sweep.after"
	TransactionStreamed Name = "transaction.streamed"
	CommitBefore        Name = "commit.before"
	CommitAfter         Name = "commit.after"
	ReleaseBefore       Name = "release.before"
	ReleaseAfter        Name = "release.after"
	SucceedBefore       Name = "succeed.before"
	SucceedAfter        Name = "succeed.after"
	SwapStopped         Name = "swap.stopped"
	SwapMarked          Name = "swap.marked"
	SwapBefore          Name = "swap.before"
	SwapAfter           Name = "swap.after"
	SwapDone            Name = "swap.done"

	MoveBefore        Name = "move.before"
	MoveReleased      Name = "move.released"
	ConsumerForgotten Name = "consumer.forgotten"
)

// Role is the kind of process that reaches a failpoint.
type Role string

// Roles.
const (
	Agent  Role = "agent"
	Worker Role = "worker"
)

// Point describes a failpoint.
type Point struct {
	Role Role
	What string // what has just happened, or is about to
}

// Points are all failpoints.
var Points = map[Name]Point{
	StartReached:  {Agent, "NATS has answered, the slot is not taken yet"},
	StartAcquired: {Agent, "the slot is taken"},
	StartResumed:  {Agent, "the position was read from the stream's end"},
	FenceBefore:   {Agent, "the fence is about to be published"},
	FenceAfter:    {Agent, "the fence is stored, the record does not know of it"},
	StartRecorded: {Agent, "the record names this writer"},
	StartChecked:  {Agent, "the log was found to continue the stream"},
	StartPrepared: {Agent, "what an earlier writer left incomplete is published, the log is about to be read"},

	LogReceived:    {Agent, "changes were received, nothing of them is published"},
	LogEncoded:     {Agent, "a change is encoded, and not published"},
	ChainPublished: {Agent, "a message is in the chain's window, perhaps sent, not acknowledged"},
	GroupPiece:     {Agent, "a message of a group is published, and others of it are not"},
	ChainStored:    {Agent, "JetStream has acknowledged messages"},
	RecordBefore:   {Agent, "the record in KV is about to name a new position"},
	RecordAfter:    {Agent, "the record names a new position, the slot does not"},
	SlotBefore:     {Agent, "the slot is about to be moved"},
	SlotAfter:      {Agent, "the slot was moved"},
	MarkPublished:  {Agent, "an idle position was published as a marker"},

	LoadBegun:      {Agent, "the m of a table's load is published in every partition"},
	ChunkRead:      {Agent, "a chunk was read, its marker is not written"},
	ChunkMarked:    {Agent, "a chunk's marker is in the source's log"},
	ChunkPublished: {Agent, "a chunk's rows are published"},
	ChunkCounted:   {Agent, "a chunk is counted in KV"},
	LoadSwept:      {Agent, "the t of a table's load is published in every partition"},
	LoadEnded:      {Agent, "the record says that the load is done"},

	BackfillRead: {Agent, "a function's backfill is read and counted, its end is not noted"},
	BackfillDone: {Agent, "the end of a function's backfill is noted"},

	ClaimBefore:         {Worker, "a partition is free, and about to be claimed"},
	ClaimAfter:          {Worker, "a partition was claimed"},
	ConsumerOpened:      {Worker, "a consumer was created after the floor"},
	Fetched:             {Worker, "messages were fetched, nothing of them is written"},
	WriteBefore:         {Worker, "a batch is about to be written to the target"},
	WriteAfter:          {Worker, "the target has committed a batch"},
	WriteDurable:        {Worker, "the lane stands behind what the target has committed"},
	ConsumerAcked:       {Worker, "the consumer has acknowledged a batch"},
	FloorBefore:         {Worker, "the floor is about to be moved"},
	FloorAfter:          {Worker, "the floor was moved"},
	BarrierBefore:       {Worker, "a TRUNCATE or the end of a load is about to be executed for all partitions"},
	BarrierAfter:        {Worker, "a TRUNCATE or the end of a load was executed, or still waits for other partitions"},
	SweepBefore:         {Worker, "a partition is about to be swept"},
	SweepAfter:          {Worker, "a partition was swept, the floor does not know"},
	TransactionStreamed: {Worker, "a part of a transaction that is larger than a batch is in the target, and not committed"},
	CommitBefore:        {Worker, "transactions of the source are in one of the target, which is about to be committed"},
	CommitAfter:         {Worker, "the target has committed transactions of the source"},
	ReleaseBefore:       {Worker, "a partition is about to be released by a worker that stops"},
	ReleaseAfter:        {Worker, "a partition was released by a worker that stops"},
	SucceedBefore:       {Worker, "an older generation has stopped and is closed, where it stood is not noted"},
	SucceedAfter:        {Worker, "a generation has taken the place of an older one"},
	SwapStopped:         {Worker, "the copy of a function was told to stop, to come in its place"},
	SwapMarked:          {Worker, "function and copy have stopped, and the record says that the target is about to swap"},
	SwapBefore:          {Worker, "the target is about to swap"},
	SwapAfter:           {Worker, "the target has swapped, the record does not know"},
	SwapDone:            {Worker, "the record knows that the target has swapped, the copy is still there"},

	MoveBefore:        {Worker, "a partition is about to be handed over to another worker"},
	MoveReleased:      {Worker, "a partition was released for another worker, which was not told yet"},
	ConsumerForgotten: {Worker, "the consumer of a worker that is gone was deleted"},
}
