package registry_test

import (
	"strings"
	"testing"
)

// Every deployment of a function is a version, and can be deployed once more.
func TestVersions(t *testing.T) {
	t.Parallel()
	r := open(t)
	deploy(t, r, source, several)
	deploy(t, r, several+"batch: {rows: 7}\n")
	deploy(t, r, several+"batch: {rows: 7}\n")
	if _, _, err := r.VersionOf(t.Context(), "many", 7); err == nil || !strings.Contains(err.Error(), `there is no version 7 of it; there are 1, 2`) {
		t.Errorf("got %v", err)
	}
	f, v, err := r.VersionOf(t.Context(), "many", 0)
	if err != nil || v.Version != 1 {
		t.Fatal(v, err)
	}
	if _, err := r.Deploy(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	got := record(t, r, "many")
	if got.Version != 3 || got.Spec+"\n" != several {
		t.Errorf("record %+v", got)
	}
	versions, err := r.VersionsOf(t.Context(), "many")
	if err != nil || len(versions) != 3 || versions[1].Diff == "" || versions[1].Diff == versions[2].Diff || versions[2].Deployed.Before(versions[0].Deployed) {
		t.Errorf("%+v, %v", versions, err)
	}
	if err := r.DeleteFunction(t.Context(), "many"); err != nil {
		t.Fatal(err)
	}
	deploy(t, r, several)
	if versions, err := r.VersionsOf(t.Context(), "many"); err != nil || len(versions) != 1 {
		t.Errorf("of one that was deployed anew: %+v, %v", versions, err)
	}
}
