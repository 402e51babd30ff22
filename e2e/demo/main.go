// Command demo runs the main job on real servers: a small shop in PostgreSQL, MySQL or MariaDB flows into Elasticsearch, ClickHouse and another
// PostgreSQL through one `runnel run`, which is killed in the middle; then every row is compared. scripts/demo calls it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() {
	length := flag.Duration("for", 0, "length of the traffic; 0: until Ctrl-C")
	rows := flag.Int("rows", 20000, "rows that exist before")
	source := flag.String("source", "postgres", "where the shop is: postgres, mysql or mariadb")
	rate := flag.Int("rate", 400, "transactions a second")
	dir := flag.String("dir", ".demo", "folder for the binary, the YAML and the data")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := &demo{dir: *dir, source: *source, rows: *rows, rate: *rate, length: *length, terminal: term.IsTerminal(int(os.Stderr.Fd()))}
	err := d.run(ctx)
	d.cleanup()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run is the demo from start to verdict.
func (d *demo) run(ctx context.Context) (err error) {
	defer func() { // servers report through Fatalf
		if r := recover(); r != nil {
			f, ok := r.(fatal)
			if !ok {
				panic(r)
			}
			err = errors.New(string(f))
		}
	}()
	if err := d.prepare(ctx); err != nil {
		return err
	}
	if err := d.start(); err != nil {
		return err
	}
	traffic := d.traffic(ctx)
	half := d.length / 2
	if d.length == 0 {
		half = 10 * time.Second
	}
	if err := d.wait(ctx, half); err != nil {
		return err
	}
	d.say("kill -9 of runnel, in the middle of it all; then it is started again")
	d.kill()
	if err := d.start(); err != nil {
		return err
	}
	if d.length == 0 {
		d.tryNext()
		err = d.wait(ctx, 365*24*time.Hour)
	} else {
		err = d.wait(ctx, d.length-half)
	}
	if err != nil {
		return err
	}
	if err := traffic.stop(); err != nil {
		return err
	}
	d.say("traffic stopped after %d transactions with %d changed rows; comparing every row", traffic.t.Transactions(), traffic.t.Changes())
	verdict, diffs, err := d.compare(context.WithoutCancel(ctx), 90*time.Second)
	if err != nil {
		return err
	}
	if err := d.stop(); err != nil {
		return err
	}
	if len(diffs) > 0 {
		fmt.Println(strings.Join(diffs, "\n"))
		return fmt.Errorf("different: %d differences or more; runnel's log: %s", len(diffs), filepath.Join(d.dir, "runnel.log"))
	}
	fmt.Println("demo: equal: " + verdict)
	return nil
}

// wait lets time pass; it fails early when runnel ends. Ctrl-C ends the traffic, not the demo.
func (d *demo) wait(ctx context.Context, t time.Duration) error {
	select {
	case <-ctx.Done():
	case <-time.After(t):
	case err := <-d.ended:
		return fmt.Errorf("runnel ended: %w; its log: %s", err, filepath.Join(d.dir, "runnel.log"))
	}
	return nil
}

func (d *demo) tryNext() {
	bin, data := filepath.Join(d.dir, "runnel"), filepath.Join(d.dir, "data")
	fmt.Printf(`
It runs. Try, in another terminal:
  %[1]s list --data %[2]s
  %[1]s describe shop --data %[2]s
  %[1]s tail %[6]s.orders --data %[2]s
  %[3]s "update orders set status = 'lost' where id = 7"
  psql '%[4]s' -c 'select * from orders where id = 7'
  curl '%[5]s/?query=SELECT+status,count()+FROM+orders+FINAL+GROUP+BY+status'
`, bin, data, d.client(), d.env["WAREHOUSE_URL"], d.clickhouse, d.schema())
	if d.elasticsearch != "" {
		fmt.Printf("  curl '%s/shop-orders/_search?q=status:lost&size=3&pretty'\n", d.elasticsearch)
	}
	fmt.Print("Ctrl-C stops the traffic and compares every row.\n\n")
}
