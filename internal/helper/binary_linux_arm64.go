package helper

import _ "embed"

//go:embed sbx-helper-arm64
var program string
