package mysql

import (
	"context"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/runnel-dev/runnel/capture"
)

// SetPatience sets how long a transaction that was published may be missing.
func SetPatience(s *Source, d time.Duration) { s.patience = d }

// SetTick sets how often the session that holds the lock is looked at.
func SetTick(s *Source, d time.Duration) { s.tick = d }

// SetSilence sets how long a connection may say nothing.
func SetSilence(s *Source, d time.Duration) { s.silence = d }

// SetSpool sets how many bytes of XA transactions lie in memory.
func SetSpool(s *Source, bytes int64) { s.spool = bytes }

// Compress makes what the log gives until a commit one event, as a server with binlog_transaction_compression writes it: parsed by a parser of its
// own, without checksums.
func Compress(ctx context.Context, log capture.Log) error {
	l := log.(*Log)
	parser := replication.NewBinlogParser()
	payload := &replication.BinlogEvent{Header: &replication.EventHeader{EventType: replication.TRANSACTION_PAYLOAD_EVENT}}
	inner := &replication.TransactionPayloadEvent{}
	payload.Event = inner
	for open := false; ; {
		e, err := l.events.GetEvent(ctx)
		if err != nil {
			return err
		}
		switch e.Event.(type) {
		case *replication.RotateEvent, *replication.PreviousGTIDsEvent, *replication.GTIDEvent:
			l.queue = append(l.queue, e)
			continue
		}
		if e.Header.EventType == replication.HEARTBEAT_EVENT || e.Header.EventType == replication.HEARTBEAT_LOG_EVENT_V2 {
			continue
		}
		p, err := parser.Parse(e.RawData)
		if err != nil {
			return err
		}
		if _, ok := e.Event.(*replication.FormatDescriptionEvent); ok && !open {
			l.queue = append(l.queue, e)
			continue
		}
		open = true
		p.RawData = p.RawData[:len(p.RawData)-replication.BinlogChecksumLength]
		inner.Events = append(inner.Events, p)
		if _, ok := e.Event.(*replication.XIDEvent); ok {
			payload.Header.LogPos, payload.Header.EventSize = e.Header.LogPos, e.Header.EventSize
			l.queue = append(l.queue, payload)
			return nil
		}
	}
}
