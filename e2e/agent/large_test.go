package agent_test

import "testing"

// TestRowsOf64MB are far above what JetStream stores in a message: they come whole, from a load and from the log.
func TestRowsOf64MB(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `CREATE TABLE a (id int PRIMARY KEY, v text, n int); ALTER TABLE a ALTER v SET STORAGE EXTERNAL;
		INSERT INTO a VALUES (1, repeat(md5('loaded'), 2097152), 0)`)
	w.start()
	w.loaded()
	w.exec(`INSERT INTO a VALUES (2, repeat(md5('logged'), 2097152), 0)`)
	w.exec(`UPDATE a SET n = 1 WHERE id = 1`) // the value is not in the log
	w.settled()
	w.stop()
	if diff := w.differences("a"); diff != "" {
		t.Error(diff)
	}
}
