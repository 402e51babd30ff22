package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/process"
)

// captureCommand is `runnel capture`.
type captureCommand struct {
	nats natsFlags
	http process.HTTP
	log  process.Log
	past pastFlags
}

func newCapture() *cobra.Command {
	c := &captureCommand{}
	cmd := &cobra.Command{
		Use:   "capture SOURCE",
		Short: "Run the capture agent of one source; a second one waits as a standby",
		Long: `Capture moves the log of one deployed source into its stream. A second agent of the same source waits and takes over
within seconds when the first one dies. One that was overtaken exits with code 4.

Where changes are missing between stream and log (the slot is gone, the server was restored to the past), it stops and
says so. --resnapshot goes on from where the log can be read, and loads all tables again. --from-oldest goes on with the
oldest changes that a MySQL or MariaDB server still has, and loads nothing: what it has thrown away is missing in all targets.`,
		Example: "  runnel capture shop --nats nats://127.0.0.1:4222\n  runnel capture shop --resnapshot",
		Args:    exactlyOne("the name of one source"),
		RunE:    func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0], cmd.ErrOrStderr()) },
	}
	c.nats.add(cmd.Flags())
	c.http.Flags(cmd.Flags())
	c.log.Flags(cmd.Flags())
	c.past.add(cmd)
	return cmd
}

func (c *captureCommand) run(ctx context.Context, name string, errs io.Writer) error {
	screen := process.NewScreen(errs)
	log, err := c.log.Logger(screen)
	if err != nil {
		return err
	}
	s, err := c.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if !c.past.any() { // else it is revived once it is past the gap
		if err := revive(ctx, s.registry, []string{name}, nil); err != nil {
			return err
		}
	}
	board := newBoard()
	a := &agents{session: s, board: board, log: log, only: []string{name}, lone: true, ways: c.past}
	p := process.Process{HTTP: c.http, Metrics: process.NewMetrics(process.Version(version)), Screen: screen, Log: log, Reporters: []process.Reporter{board}}
	return p.Run(ctx, a.run)
}

// pastFlags are the ways past a gap.
type pastFlags struct{ resnapshot, oldest bool }

func (f *pastFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.resnapshot, "resnapshot", false, "go on past a gap in a source's log, and load all of its tables again")
	cmd.Flags().BoolVar(&f.oldest, "from-oldest", false, "go on past a gap with the oldest changes that the server still has, and load nothing (MySQL, MariaDB)")
	cmd.MarkFlagsMutuallyExclusive("resnapshot", "from-oldest")
}

func (f pastFlags) any() bool { return f.resnapshot || f.oldest }
