package actionfile

import _ "embed"

// Schema is the JSON Schema of action files. It says less than [Load]: nothing of
// references, of patterns, or of what durations and sizes look like.
//
//go:embed schema.json
var Schema []byte
