package registry

import _ "embed"

// JSONSchema is the JSON Schema (2020-12) of the YAML documents, for editors. It is made of this package's types and their comments by
// `go test ./runtime/registry -run TestJSONSchema -update`. What it accepts may still be refused: names, references and URLs are looked
// at by ReadFiles alone.
//
//go:embed schema.json
var JSONSchema []byte
