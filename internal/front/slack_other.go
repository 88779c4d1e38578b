//go:build !linux

package front

func learnSlack() {}

// Exact is for Linux, where a front may have had threads sleep less exactly.
func Exact() {}

// Closed says nothing here.
func Closed(int) bool { return false }
