// Package staging turns declared inputs into trees, trees and root file systems
// into a fresh root for a backend, and a quiet root into outputs.
//
// It promises that nothing an action can write is shared with the store, that
// a file's bytes in the root are those that its digest names, and that outputs
// appear in the workspace whole or not at all.
//
// Read scan.go (the workspace to a tree), stage.go (a tree to a root), collect.go
// (a root to outputs), deliver_linux.go (outputs to the workspace) and witness.go
// (what a command saw of the host). What is never read twice is in statcache.go.
package staging
