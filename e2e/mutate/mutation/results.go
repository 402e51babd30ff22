package mutation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ResultsFile is where the last recorded run of all mutations stands, from the root.
const ResultsFile = "e2e/mutate/results.json"

// Result is what a catcher made of a mutation.
type Result struct {
	By      string  `json:"by"`
	Caught  bool    `json:"caught"`
	Seconds float64 `json:"seconds"`
	Finding string  `json:"finding"` // its first line
}

// Results by mutation.
type Results map[string][]Result

// ReadResults reads the recorded results; there may be none yet.
func ReadResults(root string) (Results, error) {
	r := Results{}
	b, err := os.ReadFile(filepath.Join(root, ResultsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("read the results of mutations: %w", err)
	}
	return r, nil
}

// Write keeps the results of the mutations that there are.
func (r Results) Write(root string) error {
	kept := Results{}
	for i := range All {
		if of := r[All[i].Name]; of != nil {
			kept[All[i].Name] = of
		}
	}
	b, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return fmt.Errorf("write the results of mutations: %w", err)
	}
	return os.WriteFile(filepath.Join(root, ResultsFile), append(b, '\n'), 0o644)
}
