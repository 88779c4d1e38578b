package bwrap

import _ "embed"

//go:embed sbx-bwrap-arm64
var program string
