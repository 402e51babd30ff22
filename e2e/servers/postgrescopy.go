package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// standbyName is the physical slot that a server keeps for its standby.
const standbyName = "standby"

// Backup copies the data of a running server as a snapshot of its disk would: with its replication slots, and up to now.
func (s *Server) Backup(t TB) (copied string) {
	t.Helper()
	copied, err := os.MkdirTemp(s.Dir, "copy")
	if err != nil {
		t.Fatal(err)
	}
	s.backup(t, copied)
	return copied
}

// backup is an online one, as pg_basebackup makes it. The log is copied last and reaches up to the backup's end, so that a
// server starts on the copy alone.
func (s *Server) backup(t TB, to string) {
	t.Helper()
	x := s.session(t)
	defer x.close()
	x.exec("SELECT pg_create_physical_replication_slot('backup_' || pg_backend_pid(), true, true)") // keeps the log meanwhile
	x.exec("SELECT pg_backup_start('copy', true)")
	data := filepath.Join(s.Dir, "data")
	if err := s.postgres.copyTree(data, to, "pg_wal", "postmaster.pid", "postmaster.opts", "pg_replslot/backup_*"); err != nil {
		t.Fatal(err)
	}
	var label string
	if err := x.QueryRow(context.Background(), "SELECT labelfile FROM pg_backup_stop(false)").Scan(&label); err != nil {
		t.Fatalf("end the backup: %v", err)
	}
	err := s.postgres.copyTree(filepath.Join(data, "pg_wal"), filepath.Join(to, "pg_wal"))
	if err == nil {
		err = s.postgres.write(filepath.Join(to, "backup_label"), label)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Restore puts a copy that Backup made in the place of the data, and starts the server on it. It stops a running server first.
func (s *Server) Restore(t TB, copied string) {
	t.Helper()
	s.Kill()
	data := filepath.Join(s.Dir, "data")
	err := os.RemoveAll(data)
	if err == nil {
		err = os.Rename(copied, data)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Restart(t)
}

// Standby starts a hot standby of a running server. It streams through a physical slot, and from PostgreSQL 17 on it keeps
// copies of the failover slots, whose readers get nothing that the standby does not have.
func (s *Server) Standby(t TB, conf ...string) *Server {
	t.Helper()
	x := s.session(t)
	defer x.close()
	x.exec("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '" + standbyName + "'")
	x.exec("SELECT pg_create_physical_replication_slot('" + standbyName + "', true)")

	p := s.postgres
	p.conf = append(append([]string{}, p.conf...), conf...)
	dir := tempDir(t, "pg")
	p.cred = unprivileged(t, dir)
	data := filepath.Join(dir, "data")
	if err := p.mkdir(data); err != nil {
		t.Fatal(err)
	}
	s.backup(t, data)
	slots, err := filepath.Glob(filepath.Join(data, "pg_replslot", "*"))
	for _, d := range slots { // a standby has slots of its own
		err = errors.Join(err, os.RemoveAll(d))
	}
	settings := fmt.Sprintf("primary_conninfo = 'host=127.0.0.1 port=%d user=postgres dbname=postgres'\nprimary_slot_name = '%s'\nhot_standby_feedback = on\n"+
		"wal_receiver_status_interval = 100ms\nwal_retrieve_retry_interval = 100ms\n", s.Port, standbyName)
	if p.major >= 17 {
		settings += "sync_replication_slots = on\n"
	}
	// What was set on the primary is left behind: a synchronized_standby_slots would make the promoted server wait for ever.
	err = errors.Join(err, p.write(filepath.Join(data, "postgresql.auto.conf"), settings), p.write(filepath.Join(data, "standby.signal"), ""))
	if err != nil {
		t.Fatal(err)
	}
	standby := p.start(t, dir)
	x.until("SELECT active FROM pg_replication_slots WHERE slot_name = '" + standbyName + "'")
	if p.major >= 17 {
		x.set("synchronized_standby_slots", standbyName)
	}
	return standby
}

// Synced waits until the standby has a copy of a logical slot that survives its promotion. That takes a reader that goes on:
// the copy is temporary until the slot has come past where the standby's own log begins, and a young stream holds the slot back.
func (s *Server) Synced(t TB, primary *Server, slot string) {
	t.Helper()
	x, on := s.session(t), primary.session(t)
	defer x.close()
	defer on.close()
	for end := time.Now().Add(4 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		on.exec("SELECT pg_log_standby_snapshot()") // a running server writes one every 15 s
		var ok bool
		err := x.QueryRow(context.Background(), "SELECT synced AND NOT temporary AND invalidation_reason IS NULL FROM pg_replication_slots WHERE slot_name = $1", slot).Scan(&ok)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			t.Fatalf("look at the standby's slots: %v", err)
		}
		if ok {
			return
		}
	}
	t.Fatalf("slot %s is not synced to the standby. On the primary: %s. On the standby: %s. It says:\n%s", slot, on.slot(slot), x.slot(slot), s.lastWords())
}

// slot describes a replication slot.
func (x session) slot(name string) (all string) {
	err := x.QueryRow(context.Background(), "SELECT coalesce((SELECT row_to_json(s)::text FROM (SELECT active, failover, synced, temporary, restart_lsn, confirmed_flush_lsn, catalog_xmin, invalidation_reason"+
		" FROM pg_replication_slots WHERE slot_name = $1) s), 'there is none')", name).Scan(&all)
	if err != nil {
		return err.Error()
	}
	return all
}

// Promote makes a standby the primary. The old one must be gone.
func (s *Server) Promote(t TB) {
	t.Helper()
	x := s.session(t)
	defer x.close()
	x.exec("SELECT pg_promote(true, 60)")
	x.until("SELECT NOT pg_is_in_recovery()")
}

// copyTree copies files and folders, less those whose path matches. What vanishes meanwhile is left out.
func (p postgres) copyTree(from, to string, less ...string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, from), "/")
		for _, pattern := range less {
			if ok, err := filepath.Match(pattern, name); err != nil || ok {
				if ok && e.IsDir() {
					return fs.SkipDir
				}
				return err
			}
		}
		target := filepath.Join(to, name)
		switch {
		case e.IsDir():
			return p.mkdir(target)
		case e.Type().IsRegular():
			return p.copyFile(path, target)
		}
		return nil // sockets
	})
}

func (p postgres) copyFile(from, to string) error {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), p.own(to))
}

func (p postgres) write(name, text string) error {
	return errors.Join(os.WriteFile(name, []byte(text), 0o600), p.own(name))
}

// mkdir is content with a folder that is there: PostgreSQL wants it closed to others.
func (p postgres) mkdir(name string) error {
	err := os.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		err = os.Chmod(name, 0o700)
	}
	return errors.Join(err, p.own(name))
}

func (p postgres) own(name string) error {
	if p.cred == nil {
		return nil
	}
	return syscall.Chown(name, int(p.cred.Uid), int(p.cred.Gid))
}
