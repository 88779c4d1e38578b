package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/integration/baserock"
	"github.com/sbx-action/sbx-action/integration/component"
)

// options are the flags that say what definitions leave open.
func (f *buildFlags) options() (baserock.Options, error) {
	o := baserock.Options{
		AnySource: f.anySource, Arch: f.arch, HostBootstrap: f.hostBootstrap, MaxJobs: int(f.maxJobs),
		Sources: map[string]*component.Source{}, Replace: map[string]component.Base{},
		Limits: component.Limits{Timeout: time.Duration(f.timeout), Memory: int64(f.componentMemory), Scratch: int64(f.componentDisk)},
	}
	for _, a := range f.aliases {
		prefix, place, ok := strings.Cut(a, "=")
		if !ok || prefix == "" || place == "" {
			return o, fmt.Errorf("--alias %q: want PREFIX=PLACE, as in upstream:=/srv/git/", a)
		}
		o.Aliases = append(o.Aliases, baserock.Alias{Prefix: prefix, Place: place})
	}
	if f.sourceMap != "" {
		if err := readSourceMap(f.sourceMap, o.Sources); err != nil {
			return o, err
		}
	}
	for _, s := range f.sources {
		if err := addSource(o.Sources, s, ""); err != nil {
			return o, fmt.Errorf("--source: %w", err)
		}
	}
	for _, r := range f.replace {
		element, base, ok := strings.Cut(r, "=")
		if !ok || element == "" || base == "" {
			return o, fmt.Errorf("--replace %q: want ELEMENT=ROOTFS, as in strata/build-essential=bookworm", r)
		}
		o.Replace[strings.TrimSuffix(element, ".morph")] = component.Base(base)
	}
	return o, nil
}

// readSourceMap reads a file of NAME=SOURCE lines.
func readSourceMap(name string, to map[string]*component.Source) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("--source-map: %w", err)
	}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := addSource(to, line, filepath.Dir(name)); err != nil {
			return fmt.Errorf("%s:%d: %w", name, number, err)
		}
	}
	return nil
}

// addSource adds NAME=SOURCE. Relative files are relative to dir.
func addSource(to map[string]*component.Source, text, dir string) error {
	name, spec, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return fmt.Errorf("%q: want NAME=SOURCE, as in zlib=dsc:zlib_1.2.13.dsc", text)
	}
	s, err := component.ParseSource(spec)
	if err != nil {
		return err
	}
	if dir != "" && !filepath.IsAbs(s.At) && !strings.Contains(s.At, "://") {
		s.At = filepath.Join(dir, s.At)
	}
	to[name] = s
	return nil
}
