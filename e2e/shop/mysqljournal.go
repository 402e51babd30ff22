package shop

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/client"
)

// mysqlJournal holds what Change's trigger and the journal need. AUTO_INCREMENT is the one number that servers of both kinds count on
// across transactions. `txn` is the session's @txn, as no trigger is told which transaction it runs in; where a session has none, each row counts
// as one.
var mysqlJournal = []string{
	"CREATE TABLE changes (n bigint PRIMARY KEY AUTO_INCREMENT)",
	`CREATE TABLE journal (id bigint PRIMARY KEY AUTO_INCREMENT, txn bigint unsigned NOT NULL, at timestamp(6) NOT NULL, op char(1) NOT NULL, tbl varchar(64) NOT NULL,
		num bigint NOT NULL, old_row longtext, new_row longtext, KEY (txn, id))`,
}

// writeJournal makes the triggers. They do for each captured table what those of PostgreSQL do. A row is noted as an object of texts, as the server prints them: see equal.MySQLRow.
func writeJournal(c *client.Conn) error {
	for _, sql := range mysqlJournal {
		if _, err := c.Execute(sql); err != nil {
			return fmt.Errorf("create the journal: %s: %w", sql, err)
		}
	}
	for _, t := range Tables {
		row, err := rowTexts(c, t.Name)
		if err != nil {
			return err
		}
		for _, sql := range journalTriggers(t.Name, row) {
			if _, err := c.Execute(sql); err != nil {
				return fmt.Errorf("create the journal: %s: %w", sql, err)
			}
		}
	}
	return nil
}

// SwapMySQL replaces a table as gh-ost and pt-online-schema-change do: a shadow table gets another column and the rows, and takes the name in one
// statement. Nobody may write meanwhile; the journal's triggers are made anew.
func SwapMySQL(ctx context.Context, address, table, column string) error {
	c, err := connectMySQL(ctx, address, "root", "shop")
	if err != nil {
		return err
	}
	defer c.Close()
	row, err := rowTexts(c, table)
	if err != nil {
		return err
	}
	columns, err := columnNames(c, table)
	if err != nil {
		return err
	}
	list := "`" + strings.Join(columns, "`, `") + "`"
	statements := []string{
		fmt.Sprintf("CREATE TABLE _%s_new LIKE %[1]s", table),
		fmt.Sprintf("ALTER TABLE _%s_new ADD COLUMN %s FIRST", table, column),
		fmt.Sprintf("INSERT INTO _%s_new (%s) SELECT %[2]s FROM %[1]s", table, list),
	}
	triggers := journalTriggers(table, row)
	for _, name := range triggers {
		statements = append(statements, "DROP TRIGGER "+strings.Fields(name)[2])
	}
	statements = append(statements, fmt.Sprintf("RENAME TABLE %s TO _%[1]s_old, _%[1]s_new TO %[1]s", table))
	statements = append(append(statements, triggers...), fmt.Sprintf("DROP TABLE _%s_old", table))
	for _, sql := range statements {
		if _, err := c.Execute(sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// columnNames are a table's columns in their order.
func columnNames(c *client.Conn, table string) (names []string, err error) {
	r, err := c.Execute("SELECT column_name FROM information_schema.columns WHERE table_schema = 'shop' AND table_name = '" + table + "' AND COALESCE(generation_expression, '') = '' ORDER BY ordinal_position")
	if err != nil {
		return nil, fmt.Errorf("columns of %s: %w", table, err)
	}
	for i := range r.RowNumber() {
		name, err := r.GetString(i, 0)
		if err != nil {
			return nil, fmt.Errorf("columns of %s: %w", table, err)
		}
		names = append(names, name)
	}
	return names, nil
}

func journalTriggers(table, row string) []string {
	stamp := "BEGIN INSERT INTO shop.changes VALUES (); SET NEW.`change` = LAST_INSERT_ID(); END"
	of := func(side string) string { return strings.ReplaceAll(row, "ROW.", side+".") }
	note := func(op, number, from, to string) string {
		return fmt.Sprintf(`BEGIN
			INSERT INTO shop.journal (txn, at, op, tbl, num, old_row, new_row) VALUES (COALESCE(@txn, UUID_SHORT()), SYSDATE(6), '%s', '%s', %s, %s, %s); END`,
			op, table, number, from, to)
	}
	var all []string
	for _, trigger := range []struct{ when, body string }{
		{"BEFORE INSERT", stamp}, {"BEFORE UPDATE", stamp},
		{"AFTER INSERT", note("i", "NEW.`change`", "NULL", of("NEW"))},
		{"AFTER UPDATE", note("u", "NEW.`change`", of("OLD"), of("NEW"))},
		{"AFTER DELETE", note("d", "0", of("OLD"), "NULL")},
	} {
		name := table + "_" + strings.ToLower(strings.ReplaceAll(trigger.when, " ", "_"))
		all = append(all, fmt.Sprintf("CREATE TRIGGER %s %s ON %s FOR EACH ROW %s", name, trigger.when, table, trigger.body))
	}
	return all
}

// rowTexts is an expression for a row of a table, named ROW, as an object of texts.
func rowTexts(c *client.Conn, table string) (string, error) {
	r, err := c.Execute("SELECT column_name, data_type, COALESCE(numeric_precision, 0) FROM information_schema.columns WHERE table_schema = 'shop' AND table_name = '" + table + "' ORDER BY ordinal_position")
	if err != nil {
		return "", fmt.Errorf("columns of %s: %w", table, err)
	}
	var members []string
	for i := range r.RowNumber() {
		name, err := r.GetString(i, 0)
		if err != nil {
			return "", err
		}
		typ, err := r.GetString(i, 1)
		if err != nil {
			return "", err
		}
		bits, err := r.GetInt(i, 2)
		if err != nil {
			return "", err
		}
		members = append(members, fmt.Sprintf("'%s', %s", name, columnText("ROW.`"+name+"`", typ, bits)))
	}
	return "JSON_OBJECT(" + strings.Join(members, ", ") + ")", nil
}

// columnText is a value's text, or the hex digits of one that is bytes.
func columnText(column, typ string, bits int64) string {
	switch {
	case typ == "bit":
		return fmt.Sprintf("LPAD(HEX(%s + 0), %d, '0')", column, (bits+7)/8*2)
	case strings.HasSuffix(typ, "binary"), strings.HasSuffix(typ, "blob"):
		return "HEX(" + column + ")"
	case typ == "float": // whose own text has six digits only
		return "CAST(" + column + " + 0e0 AS CHAR)"
	}
	return "CAST(" + column + " AS CHAR)"
}
