// Command guarantees writes docs/guarantees.md: what Runnel promises, how that was tried and how often, what it does not promise,
// and what prevents the ways in which other systems have hurt their users. The counts are what the crash harness and the
// mutations recorded; a test fails where the page is older than they are, or names a test that is not there.
//
//	go run ./e2e/guarantees    from the root of the repository
package main

import (
	"fmt"
	"os"
)

//go:generate go run . ../..

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	if err := write(root); err != nil {
		fmt.Fprintln(os.Stderr, "guarantees:", err)
		os.Exit(1)
	}
}

func write(root string) error {
	b, err := page(root)
	if err != nil {
		return err
	}
	if err := os.WriteFile(root+"/"+pageFile, b, 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}
