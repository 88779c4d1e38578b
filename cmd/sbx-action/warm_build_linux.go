package main

import (
	"path/filepath"
	"runtime"

	"github.com/sbx-action/sbx-action/internal/front"
	"github.com/sbx-action/sbx-action/internal/warm"
)

// beginWarm is called when a miss, which a warm worker could have answered, has been: a
// build of many of them gets a session by itself. See internal/warm/build_linux.go.
func beginWarm(p *parts, compiles bool) {
	dir := statDir(p.store)
	why := front.Why()
	if serving != nil || dir == "" || p.miss.Name() != "native" || why == front.Absent || why == front.NotOurs {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	front.Exact() // for those who call the session have it so
	warm.Missed(filepath.Join(dir, "missed"), compiles)
}
