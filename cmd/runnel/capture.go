package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"
)

// captureCommand is `runnel capture`.
type captureCommand struct {
	nats       natsFlags
	http       httpFlags
	log        logFlags
	resnapshot bool
}

func newCapture() *cobra.Command {
	c := &captureCommand{}
	cmd := &cobra.Command{
		Use:   "capture SOURCE",
		Short: "Run the capture agent of one source; a second one waits as a standby",
		Long: `Capture moves the log of one deployed source into its stream. A second agent of the same source waits and takes over
within seconds when the first one dies. One that was overtaken exits with code 4.

Where changes are missing between stream and log (the slot is gone, the server was restored to the past), it stops and
says so. --resnapshot goes on from where the log can be read, and loads all tables again.`,
		Args: exactlyOne("the name of one source"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0], cmd.ErrOrStderr()) },
	}
	c.nats.add(cmd.Flags())
	c.http.add(cmd.Flags())
	c.log.add(cmd.Flags())
	cmd.Flags().BoolVar(&c.resnapshot, "resnapshot", false, "go on past a gap in the source's log, and load all of its tables again")
	return cmd
}

func (c *captureCommand) run(ctx context.Context, name string, errs io.Writer) error {
	screen := newPainter(errs)
	log, err := c.log.logger(screen)
	if err != nil {
		return err
	}
	s, err := c.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if !c.resnapshot { // else it is revived once it is past the gap
		if err := revive(ctx, s.registry, []string{name}, nil); err != nil {
			return err
		}
	}
	board := newBoard(newMetrics())
	a := &agents{session: s, board: board, log: log, only: []string{name}, lone: true, resnapshot: c.resnapshot}
	return together(ctx, c.http, board, screen, log, a.run)
}
