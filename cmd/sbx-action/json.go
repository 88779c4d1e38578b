package main

import (
	"encoding/json"
	"io"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/reproduce"
)

// A report is what --json prints: one object on one line. Durations are in
// seconds, sizes in bytes.
type jsonReport struct {
	Name         string             `json:"name,omitempty"` // of an action in a file
	ActionDigest string             `json:"action_digest"`
	Cached       bool               `json:"cached"`
	Remote       string             `json:"remote,omitempty"` // executed, or cached: a cluster gave the result
	ExitCode     int32              `json:"exit_code"`
	Signal       int                `json:"signal,omitempty"`
	TimedOut     bool               `json:"timed_out,omitempty"`
	OutOfMemory  bool               `json:"out_of_memory,omitempty"`
	Backend      string             `json:"backend"`
	InputRoot    string             `json:"input_root_digest"`
	Command      string             `json:"command_digest"`
	Rootfs       string             `json:"rootfs"`
	Outputs      []jsonOutput       `json:"outputs"`
	Missing      []string           `json:"missing_outputs,omitempty"`
	Miss         string             `json:"miss,omitempty"`
	NotStored    string             `json:"not_stored,omitempty"`
	Hints        []string           `json:"undeclared_inputs,omitempty"`
	Verified     *jsonVerified      `json:"verified,omitempty"`
	Unused       []string           `json:"unused_inputs,omitempty"` // of --unused
	Pruned       bool               `json:"pruned,omitempty"`        // a hit of --prune
	Changes      []jsonLeft         `json:"changes,omitempty"`       // with --changes
	Kept         string             `json:"kept,omitempty"`          // the directory of --keep
	Usage        *jsonUsage         `json:"usage,omitempty"`
	Times        map[string]float64 `json:"times"`
}

// worker is the backend that the result is from.
func worker(res *action.Result) string {
	if res.Metadata == nil {
		return ""
	}
	return res.Metadata.Worker
}

type jsonOutput struct {
	Path       string `json:"path"` // relative to the workspace
	Type       string `json:"type"` // file, directory or symlink
	Digest     string `json:"digest,omitempty"`
	Size       int64  `json:"size,omitempty"`
	Executable bool   `json:"executable,omitempty"`
	Target     string `json:"target,omitempty"`
}

type jsonUsage struct {
	User   float64 `json:"user"`
	System float64 `json:"system"`
	MaxRSS int64   `json:"max_rss"`
}

func printJSON(w io.Writer, job *job, out *action.Outcome, hints, unused []string, report *reproduce.Report, left *leftBehind, started time.Time) error {
	r := jsonReport{
		Name:         job.name,
		ActionDigest: out.Key.String(), Cached: out.Cached, ExitCode: out.Result.ExitCode,
		Backend: worker(out.Result), InputRoot: job.action.InputRoot.String(), Command: job.action.Command.String(),
		Rootfs: job.parts.rootfs.ID(), Outputs: job.outputs(out.Result), Hints: hints, Verified: verified(report),
		Unused: unused, Pruned: out.Pruned,
		Changes: left.json(), Kept: left.kept,
		Times: map[string]float64{
			"lookup": out.Times.Lookup.Seconds(), "save": out.Times.Save.Seconds(), "stage": out.Times.Stage.Seconds(),
			"run": out.Times.Run.Seconds(), "collect": out.Times.Collect.Seconds(), "store": out.Times.Store.Seconds(),
			"scan": job.scanned.Seconds(), "deliver": job.delivered.Seconds(), "total": time.Since(started).Seconds(),
		},
	}
	for _, m := range out.Missing {
		r.Missing = append(r.Missing, job.inWorkspace(m.Path))
	}
	if out.Away != nil {
		if r.Remote = "executed"; out.Away.Cached {
			r.Remote = "cached"
		}
	}
	if out.Miss != nil {
		r.Miss = out.Miss.Error()
	}
	if out.Unkept != nil {
		r.NotStored = out.Unkept.Error()
	}
	if s := out.Status; s != nil {
		r.Signal, r.TimedOut, r.OutOfMemory = s.Signal, s.TimedOut, s.OutOfMemory
		r.Usage = &jsonUsage{s.Usage.User.Seconds(), s.Usage.System.Seconds(), s.Usage.MaxRSS}
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// outputs lists what a result holds, by paths relative to the workspace.
func (j *job) outputs(res *action.Result) []jsonOutput {
	list := []jsonOutput{}
	for _, f := range res.Files {
		list = append(list, jsonOutput{
			Path: j.inWorkspace(f.Path), Type: "file", Digest: f.Digest.String(), Size: f.Digest.Size(), Executable: f.Executable,
		})
	}
	for _, d := range res.Directories {
		list = append(list, jsonOutput{Path: j.inWorkspace(d.Path), Type: "directory", Digest: d.Tree.String()})
	}
	for _, s := range res.Symlinks {
		list = append(list, jsonOutput{Path: j.inWorkspace(s.Path), Type: "symlink", Target: s.Target})
	}
	return list
}
