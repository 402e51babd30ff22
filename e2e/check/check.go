// Package check holds Runnel's promises as functions: each one reads what was recorded, the stream that is read back, the journal
// that the source wrote itself, what targets were seen to show, and counts what breaks it. It knows nothing of the
// implementation but the stored formats, so it never trusts what it checks, and every kind of test uses it.
//
// A Recorder collects a history during a run, Samplers look at targets and source, and a Report judges:
//
//	var r check.Report
//	err := r.Samples(recorder.All)                // backwards, delayed, undurable (the slot)
//	err = r.Stream(check.Stream{…}, recorder.All) // lost, duplicated, disordered, interleaved, undurable (the floors)
//	r.Equal(table, "postgres", rows)              // differing
//	fmt.Println(&r)                               // lost=0 duplicated=0 …
//
// What a run provokes and is no breach, as a gap that an operator went past, it declares with Recorder.Allow.
package check
