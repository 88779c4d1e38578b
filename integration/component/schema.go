package component

import _ "embed"

// Schema is the JSON Schema of sbx.yaml. A test holds it against what ReadFile
// reads.
//
//go:embed sbx.schema.json
var Schema []byte
