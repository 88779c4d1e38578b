package action

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Explain writes what is in the key of an action and what is not, one thing on
// a line. c must be the command of a.
//
// The key is the digest of the canonical bytes of the [Action] message. They
// hold the digests of its [Command] and of the [Directory] at its input root,
// so everything that these say is in the key, and nothing else is. This
// function is the specification: it lists each thing, with the reason in a
// comment, and prints what it reads back from the bytes that are hashed. A
// test changes every field of the messages and sees the key and the list
// change together. Whatever else a command could tell apart must be made the
// same for every run, by staging or by the backend: the last part of the list.
func Explain(w io.Writer, a *Action, c *Command) error {
	f := a.Command.Function()
	if f == 0 {
		return errors.New("explain an action: it has no command")
	}
	hashed := a.Marshal()
	a, err := ParseAction(hashed, f)
	if err != nil {
		return fmt.Errorf("explain an action: %w", err)
	}
	command := c.Marshal()
	if d := Sum(f, command); d != a.Command {
		return fmt.Errorf("explain an action: it runs command %v, not %v", a.Command, d)
	}
	if c, err = ParseCommand(command, f); err != nil {
		return fmt.Errorf("explain an action: %w", err)
	}
	l := &listing{}
	l.add("key", Sum(f, hashed))
	l.b.WriteString("in the key:\n")
	l.command(a.Command, c)
	l.action(a)
	l.b.WriteString("not in the key:\n")
	for _, line := range outside {
		l.b.WriteString("  - " + line + "\n")
	}
	_, err = io.WriteString(w, l.b.String())
	return err
}

// command lists what the digest of the command is made of.
func (l *listing) command(d Digest, c *Command) {
	l.add("  command digest", d)
	// The program and its arguments. The program itself is a file of the
	// input root or of the root file system, and in the key through these.
	for i, s := range c.Arguments {
		l.text(fmt.Sprintf("    argument %d", i), s)
	}
	// The whole environment: the command sees no variable that is not here,
	// so the caller's language, time zone and PATH cannot leak in.
	for _, v := range c.Environment {
		l.text("    environment "+legible(v.Name), v.Value)
	}
	// Where it starts, below the input root, which always is at WorkRoot.
	l.text("    working directory", c.WorkingDirectory)
	// What is collected is part of the result: with another list, the same
	// run has another result.
	for _, s := range c.OutputPaths {
		l.text("    output path", s)
	}
	for _, s := range c.OutputFiles { // how clients before REAPI 2.1 say it
		l.text("    output file", s)
	}
	for _, s := range c.OutputDirectories {
		l.text("    output directory", s)
	}
	// What is recorded of outputs besides content, name and executable bit.
	for _, s := range c.OutputNodeProperties {
		l.text("    output node property", s)
	}
	// As what output directories are recorded: 0 as a Tree.
	if c.OutputDirectoryFormat != 0 {
		l.add("    output directory format", c.OutputDirectoryFormat)
	}
	// Clients before REAPI 2.2 say here what the action's platform says now.
	for _, p := range c.Platform {
		l.text("    platform "+legible(p.Name), p.Value)
	}
}

// action lists what the digest of the action is made of besides the command.
func (l *listing) action(a *Action) {
	// Every input: its path, content and executable bit; the targets of
	// symbolic links; directories, empty ones too. Times, owners and other
	// mode bits only where a tree states them, which ours do not.
	l.add("  input root digest", a.InputRoot)
	// A command that is killed after a minute and one that is not can have
	// different results.
	timeout := "none"
	if a.Timeout != 0 {
		timeout = a.Timeout.String()
	}
	l.add("  timeout", timeout)
	// REAPI has it in the message. It never helps to find a result.
	if a.DoNotCache {
		l.add("  do not cache", true)
	}
	// Bytes that mean nothing, to keep results apart on purpose.
	if len(a.Salt) > 0 {
		l.text("  salt", string(a.Salt))
	}
	// What the command can see or use that is not an input: the root file
	// system, by the digest of its tree or of what the command saw of the
	// host's; the processor's instruction set; what comes on standard input;
	// the network, if it has one; a backend that could not keep a promise.
	for _, p := range a.Platform {
		l.text("  platform "+legible(p.Name), p.Value)
	}
}

// outside is what is not in the key, and why a command cannot tell, or why we
// accept that it can.
var outside = []string{
	"where outputs are delivered, and under which permissions: the command never sees the workspace",
	"where the workspace is: the input root is always at " + WorkRoot,
	"files that were not declared as inputs: they are not in the sandbox",
	"times, owners and permissions of inputs, but for the executable bit: staging makes them all the same",
	"the caller's environment, working directory, umask, descriptors and terminal: the command gets none of them",
	"user, group and host name: every command has the same; of a caller without privileges who is in other groups, these remain, but have no names",
	"the caller's scheduling priority, hard resource limits and control group: results should not depend on them",
	"in which order a directory lists its names, how many links and blocks a file has, and what /proc tells of mounts: results should not depend on them",
	"which backend runs it: all keep the same promises, and a degraded one says so in the platform",
	"limits of memory, processes, file size and scratch space: a result that a limit ended is not kept",
	"the date, the time of day, and process ids: they change all the time; SOURCE_DATE_EPOCH helps commands that record them",
	"number, speed and model of the processors, and their load: results should not depend on them",
	"the version and settings of the kernel: results should not depend on them",
	"how results are looked up, stored, delivered and reported",
}

// A listing is lines of a label and a value.
type listing struct{ b strings.Builder }

// add adds a line with a value that has only one line.
func (l *listing) add(label string, value any) {
	fmt.Fprintf(&l.b, "%s: %v\n", label, value)
}

// text adds a line with a value that may hold anything.
func (l *listing) text(label, value string) { l.add(label, strconv.Quote(value)) }

// legible returns name, in quotes where that makes it easier to read.
func legible(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == ':' }) {
		return strconv.Quote(name)
	}
	return name
}
