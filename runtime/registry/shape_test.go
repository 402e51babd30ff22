package registry_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/shape"
)

const shaped = `kind: function
name: search
from: shop.public.orders
filter: after.status != 'draft'
ops: [c, u, r, d]
columns: {exclude: [notes], rename: {qty: quantity}}
set:
  total: after.amount * 2.0
  "by name": after.status + '!'
mask: {hash: [email], salt: "${SALT}", redact: [phone], last4: [card]}
to: {elasticsearch: {url: "${ES_URL}"}}
`

func TestShapeIsRead(t *testing.T) {
	t.Setenv("SALT", "sea")
	f := files(t, shaped)
	got, err := f.Functions[0].Shape()
	if err != nil {
		t.Fatal(err)
	}
	want := shape.Spec{
		Filter: "after.status != 'draft'", Ops: []event.Op{event.Create, event.Update, event.Read, event.Delete}, Exclude: []string{"notes"},
		Rename: map[string]string{"qty": "quantity"},
		Set:    []shape.Computed{{Column: "total", Expression: "after.amount * 2.0"}, {Column: "by name", Expression: "after.status + '!'"}},
		Mask: map[string]shape.Mask{
			"email": {Kind: shape.Hash, Salt: []byte("sea")}, "phone": {Kind: shape.Redact, Salt: []byte("sea")}, "card": {Kind: shape.Last4, Salt: []byte("sea")},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestShapeIsCheckedWhenDeployed(t *testing.T) {
	r := open(t)
	schema := event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "orders"}, []event.Column{
		{Name: "id", Type: "bigint", Key: 1}, {Name: "status", Type: "text"}, {Name: "amount", Type: "numeric"}, {Name: "qty", Type: "integer"},
		{Name: "notes", Type: "text"}, {Name: "email", Type: "text"}, {Name: "phone", Type: "text"}, {Name: "card", Type: "text"},
	})
	if _, err := r.Schemas.Put(t.Context(), schema.KVKey(), schema.Marshal()); err != nil {
		t.Fatal(err)
	}
	deploy := func(text string) error {
		f := files(t, "kind: source\nname: shop\npostgres: {url: \"${SHOP_URL}\"}\ntables: [public.orders]\n---\n"+text)
		_, err := r.Deploy(t.Context(), f)
		return err
	}
	refused := func(text, want string) {
		t.Helper()
		if err := deploy(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	refused(strings.Replace(shaped, "after.status !=", "after.state !=", 1), "undefined field 'state'")
	refused(strings.Replace(shaped, "!= 'draft'", "> 1", 1), "no matching overload")
	refused(strings.Replace(shaped, "exclude: [notes]", "exclude: [note]", 1), "there is no column note")
	if err := deploy(shaped); err != nil {
		t.Fatal(err)
	}
	first := record(t, r, "search").Generation
	for _, changed := range []string{strings.Replace(shaped, "draft", "new", 1), strings.Replace(shaped, "redact: [phone], ", "", 1)} {
		if err := deploy(changed); err != nil {
			t.Fatal(err)
		}
		next := record(t, r, "search")
		if next.Generation <= first || !next.Waits || !next.Backfills[len(next.Backfills)-1].Full() {
			t.Errorf("what was written does not match any more, and %+v is in its place", next)
		}
		first = next.Generation
	}
}
