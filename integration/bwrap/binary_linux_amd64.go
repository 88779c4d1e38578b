package bwrap

import _ "embed"

//go:embed sbx-bwrap-amd64
var program string
