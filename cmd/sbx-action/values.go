package main

import "github.com/sbx-action/sbx-action/cmd/commandline"

// The types of flags, which both programs have.
type (
	list     = commandline.List
	given    = commandline.Given
	size     = commandline.Size
	count    = commandline.Count
	span     = commandline.Span
	function = commandline.Function
)
