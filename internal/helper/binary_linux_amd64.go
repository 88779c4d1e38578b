package helper

import _ "embed"

//go:embed sbx-helper-amd64
var program string
