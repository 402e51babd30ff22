package main

import (
	"strings"
	"testing"
)

// What is deployed is scaled, paused, resumed and deleted, after a look at what that would do.
func TestVerbs(t *testing.T) {
	s := newShop(t)
	r := startRun(t, s.file, "--data", s.data)
	until(t, "1,000 rows copied", func() bool { return s.copied("new") == 1000 })
	until(t, "running", func() bool { return s.states() == "shop running, copy running" })

	contains(t, "scale", s.run("scale", "copy"), "expected --max", "[exit 2]")
	contains(t, "scale", s.run("scale", "shop", "--max", "1"), `no function "shop"`, "[exit 3]")
	contains(t, "scale", s.run("scale", "copy", "--max", "1", "--dry-run"), "would change function copy from all workers to at most 1 worker; 1 have partitions of it now\n")
	contains(t, "scale", s.run("scale", "copy", "--max", "1"), "function copy: at most 1 worker; 1 had partitions of it\n")
	contains(t, "scale", s.run("scale", "copy", "--max", "1"), "function copy: at most 1 worker already\n")
	contains(t, "list", s.run("list"), "1/1")
	contains(t, "describe", s.run("describe", "copy"), "workers     1, at most 1\n")

	contains(t, "pause", s.run("pause", "copy", "nothing"), `no source or function "nothing"`, "[exit 3]")
	contains(t, "pause", s.run("pause", "copy", "shop", "--dry-run"), "would change function copy from running to paused\nwould change source shop from running to paused\n")
	if got := s.states(); got != "shop running, copy running" {
		t.Errorf("after a dry run: %s", got)
	}
	contains(t, "pause", s.run("pause", "copy", "shop"), "function copy: paused\nsource shop: paused\n")
	contains(t, "pause", s.run("pause", "copy"), "function copy: paused already\n")
	until(t, "paused", func() bool { return s.states() == "shop paused, copy paused" })
	contains(t, "resume", s.run("resume", "copy", "shop"), "function copy: running\nsource shop: running\n")
	until(t, "running", func() bool { return s.states() == "shop running, copy running" })

	contains(t, "completion", command(t, "__complete", "pause", "--data", s.data, ""), "copy\nshop\n")
	contains(t, "completion", command(t, "__complete", "scale", "--data", s.data, ""), "copy\n:")

	contains(t, "delete", s.run("delete", "copy", "--drop-target", "--dry-run"), "would delete function copy\n  would drop in postgres: \"public\".\"orders\"\n")
	contains(t, "delete", s.run("delete", "copy", "--drop-stream"), "is no source", "[exit 2]")
	contains(t, "delete", s.run("delete", "copy", "--drop-target"), "  in postgres: \"public\".\"orders\"\n", "say it with --yes", "[exit 2]")
	contains(t, "delete", s.run("delete", "copy", "--dry-run"), "would delete function copy\n  would stay: in postgres: public.orders\n")
	if got := s.copied("new"); got != 1000 || !strings.Contains(s.states(), "copy running") {
		t.Errorf("nothing was to be deleted: %d rows, %s", got, s.states())
	}
	contains(t, "delete", s.run("delete", "copy", "--drop-target", "--yes"), "deleted function copy\n  dropped in postgres: \"public\".\"orders\"\n")
	if got := s.copied("new"); got != -1 {
		t.Errorf("%d rows are left", got)
	}

	contains(t, "delete", s.run("delete", "shop", "--dry-run"), "would delete source shop\n  would stay: stream CDC_shop, ", "would stay: slot runnel_shop", "would stay: publications")
	contains(t, "delete", s.run("delete", "shop", "--drop-target"), "is no function", "[exit 2]")
	contains(t, "delete", s.run("delete", "shop", "--drop-slot", "--drop-stream", "--yes"), "deleted source shop\n  dropped stream CDC_shop, ", "dropped slot runnel_shop\n  dropped publications")
	var left int
	if err := s.source.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'runnel_shop') + (SELECT count(*) FROM pg_publication)`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d slots and publications are left, %v", left, err)
	}

	// Deployed again, both begin anew.
	contains(t, "deploy", s.run("deploy", s.file), "create     source    shop\ncreate     function  copy\n")
	until(t, "1,000 rows copied again", func() bool { return s.copied("new") == 1000 })
	if text := s.run("describe", "shop"); !strings.Contains(text, "CDC_shop") {
		t.Error(text)
	}
	r.stop(t)
}
