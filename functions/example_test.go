package functions_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Order is a row of public.orders.
type Order struct {
	ID   int64  `json:"id"`
	Note string `json:"note"`
}

// rows stands for a target: a map that keeps the newest version of each row, also of those that are gone.
type rows struct {
	text     map[string]string
	versions map[string]event.Version
}

// set is a conditional write: what is older than what is there changes nothing.
func (r *rows) set(key, text string, v event.Version) {
	if v >= r.versions[key] {
		r.text[key], r.versions[key] = text, v
	}
}

func newRows(_ context.Context, f functions.Function) (functions.Handler, error) {
	var settings struct {
		Prefix  string        `config:"prefix,required"`
		Timeout time.Duration `config:"timeout"`
	}
	if err := f.Settings(&settings); err != nil {
		return nil, err
	}
	r := &rows{map[string]string{}, map[string]event.Version{}}
	return functions.Typed(func(_ context.Context, changes []functions.Change[Order]) error {
		for _, c := range functions.Latest(changes) {
			text := "deleted"
			if !c.Deleted() {
				text = c.After.Note
			}
			r.set(settings.Prefix+c.ID(), text, c.Version)
			fmt.Println(settings.Prefix+c.ID(), text)
		}
		return nil
	}), nil
}

// A binary with one handler. A function that says `handler: rows` runs on it.
func ExampleMain() {
	functions.Main(functions.Handlers{"rows": newRows})
}

// A handler gets rows as the user's own type, and of each key the newest event only. What it is given twice, or late, changes nothing,
// since the target compares versions.
func ExampleTyped() {
	h, err := newRows(context.Background(), functions.Function{Name: "orders", Config: map[string]string{"prefix": "order/"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	b := batchOf(orders, `{"id":1,"note":"new"}`, `{"id":2,"note":"new"}`, `{"id":1,"note":"paid"}`, `delete {"id":2}`)
	fmt.Println(h.Handle(context.Background(), b))
	// Output:
	// order/1 paid
	// order/2 deleted
	// <nil>
}

// What of a batch is not durable is named; the rest is done. A Permanent failure is a dead letter, any other one comes again.
func ExampleFailures() {
	write := functions.Typed(func(_ context.Context, changes []functions.Change[Order]) error {
		var failed functions.Failures
		for _, c := range changes {
			switch c.After.Note {
			case "":
				failed.Add(c.Item, functions.Permanent(errors.New("an order without a note")))
			case "busy":
				failed.Add(c.Item, errors.New("the target is busy"))
			}
		}
		return failed.Err()
	})
	fmt.Println(write.Handle(context.Background(), batchOf(orders, `{"id":1,"note":"a"}`, `{"id":2,"note":""}`, `{"id":3,"note":"busy"}`)))
	// Output: 2 events failed, the first: an order without a note
}

// A row that does not fit the type is given up by itself, and the reason says where it does not fit.
func ExampleDecode() {
	_, err := functions.Decode[Order](functions.Items(batchOf(orders, `{"id":1.5,"note":"a"}`))[0])
	fmt.Println(err)
	// Output: table public.orders: column id (bigint) holds 1.5, which is no int64 for Order.ID: not such a number
}

// Settings are what the specification says in `config:`, strictly read.
func ExampleFunction_Settings() {
	var settings struct {
		URL     string        `config:"url,required"`
		Timeout time.Duration `config:"timeout"`
	}
	f := functions.Function{Name: "orders", Config: map[string]string{"ulr": "http://cache", "timeout": "2 s"}}
	fmt.Println(f.Settings(&settings))
	// Output: config of function orders: url is missing; timeout: expected a duration such as 500ms, 10s or 15m; ulr is unknown: the handler has url, timeout
}
