// Command runnel moves the changes of a database into search indexes, analytical tables and other databases, through NATS
// JetStream. `runnel run` does all of it in one process; capture, worker and deploy do it in several.
//
// Only this package wires things together: it reads specifications, resolves references, makes sources and sinks, and binds
// metrics, health and the terminal to the observers of agent and host. One file per verb.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/process"
)

func main() {
	ctx, stop := process.Signals(context.Background())
	defer stop()
	os.Exit(execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// execute runs one command line and gives its exit code.
func execute(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err != nil {
		report(errs, err)
	}
	return exitCode(err)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "runnel",
		Short: "Change data capture: databases into search indexes, analytical tables and other databases",
		Long: `Runnel moves every committed change of a PostgreSQL, MySQL or MariaDB database into Elasticsearch, ClickHouse and
PostgreSQL, through NATS JetStream.`,
		Example: `  runnel run shop.yaml          everything in one process, JetStream embedded
  runnel list                   what runs, and how far behind it is
  runnel tail public.orders     watch a table change`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          nothing,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return process.FromEnvironment(cmd.Flags())
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.SuggestionsMinimumDistance = 2
	grouped(root, "Run:", newRun(), newCapture(), newWorker())
	grouped(root, "Deploy and change:", newDeploy(), newBackfill(), newReplay(), newRollback(), newScale(), newPause(), newResume(), newDelete())
	grouped(root, "Look:", newList(), newDescribe(), newTail(), newDLQ(), newDoctor())
	grouped(root, "Write functions:", newInit(), newTest(), newDryRun())
	grouped(root, "Other:", newSchema(), newCompletion(), newVersion())
	root.SetHelpCommandGroupID("Other:")
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetUsageTemplate(root.UsageTemplate() + conventions)
	return root
}

// grouped adds commands that belong together; help shows them under a title.
func grouped(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, c := range commands {
		c.GroupID = title
	}
	root.AddCommand(commands...)
}

// conventions end the help of runnel itself.
const conventions = `{{if not .HasParent}}
Every flag can also be set in the environment: --http is RUNNEL_HTTP, --nats-user is RUNNEL_NATS_USER.

Exit codes: 0 done, 1 something failed at run time, 2 wrong usage, 3 wrong configuration (a file, a variable, a name),
4 fenced: another agent has taken over the source.
{{end}}`

// report prints an error for people; several lines (one for each fault) are kept.
func report(w io.Writer, err error) {
	fmt.Fprintf(w, "runnel: %v\n", err)
}
