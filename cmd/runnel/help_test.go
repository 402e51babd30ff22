package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Each command has an example; what changes anything can be tried without, and what lists can be read by programs.
func TestConventions(t *testing.T) {
	t.Parallel()
	const never = "runnel, runnel run, runnel capture, runnel worker, runnel tail, runnel schema, runnel version, runnel completion, runnel help, runnel dlq show, "
	const lists = "runnel list, runnel describe, runnel doctor, runnel dlq list, runnel test, runnel dry-run, "
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		path := c.CommandPath()
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if !c.Runnable() || c.HasSubCommands() || c.Name() == "help" {
			return
		}
		if c.Example == "" {
			t.Errorf("%s: no example", path)
		}
		if c.Parent() == c.Root() && c.GroupID == "" {
			t.Errorf("%s: in no group", path)
		}
		switch {
		case strings.Contains(never, path+", "):
		case strings.Contains(lists, path+", "):
			if c.Flags().Lookup("json") == nil {
				t.Errorf("%s: no --json", path)
			}
		case c.Flags().Lookup("dry-run") == nil:
			t.Errorf("%s: no --dry-run", path)
		}
	}
	walk(newRoot())
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for shell, want := range map[string]string{"bash": "complete -o default -F __start_runnel runnel", "zsh": "#compdef runnel", "fish": "complete -c runnel"} {
		script := command(t, "completion", shell)
		contains(t, shell, script, want)
		if path, err := exec.LookPath(shell); err == nil {
			check := exec.CommandContext(t.Context(), path, "-n")
			check.Stdin = strings.NewReader(script)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s cannot read its script: %v\n%s", shell, err, out)
			}
		}
	}
	contains(t, "powershell", command(t, "completion", "powershell"), "expected one of bash, zsh and fish", "[exit 2]")
}
