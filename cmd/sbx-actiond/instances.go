package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// An instance is what clients name in every request, with limits of its own.
type instance struct {
	maxBlob    int64
	maxTimeout time.Duration
	rootfs     string
	noExecute  bool
}

// instances are those that --instance gave; none: any name is one, and all are
// alike.
type instances struct {
	named map[string]*instance
	usual *instance
}

func (i *instances) known(name string) bool { return i.named == nil || i.named[name] != nil }

func (i *instances) of(name string) *instance {
	if in := i.named[name]; in != nil {
		return in
	}
	return i.usual
}

// all are the names of the instances; if any name is one, that without a name.
func (i *instances) all() []string {
	if i.named == nil {
		return []string{""}
	}
	return slices.Sorted(maps.Keys(i.named))
}

// parseInstances parses the values of --instance:
//
//	NAME [max-blob=SIZE] [max-timeout=DURATION] [rootfs=ROOTFS] [execute=no]
//
// where NAME can be "" for the one without a name.
func parseInstances(list []string, usual *instance) (*instances, error) {
	all := &instances{usual: usual}
	for _, text := range list {
		words := strings.Fields(text)
		if len(words) == 0 {
			return nil, fmt.Errorf("--instance %q: want NAME and its settings, \"\" for the one without a name", text)
		}
		name := strings.Trim(words[0], `"`)
		if err := reapi.CheckInstance(name); err != nil {
			return nil, fmt.Errorf("--instance %q: %w", text, err)
		}
		if strings.Contains(name, "=") {
			return nil, fmt.Errorf("--instance %q begins with a setting: want NAME and its settings, \"\" for the one without a name", text)
		}
		in := *usual
		for _, w := range words[1:] {
			if err := in.set(w); err != nil {
				return nil, fmt.Errorf("--instance %q: %w", text, err)
			}
		}
		if all.named == nil {
			all.named = map[string]*instance{}
		}
		if all.named[name] != nil {
			return nil, fmt.Errorf("--instance %s is given twice", name)
		}
		all.named[name] = &in
	}
	return all, nil
}

func (in *instance) set(word string) error {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "max-blob":
		var size commandline.Size
		if err := size.Set(value); err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
		in.maxBlob = int64(size)
	case "max-timeout":
		var span commandline.Span
		if err := span.Set(value); err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
		in.maxTimeout = time.Duration(span)
	case "rootfs":
		in.rootfs = value
	case "execute":
		if value != "yes" && value != "no" {
			return fmt.Errorf("%s: want yes or no", word)
		}
		in.noExecute = value == "no"
	default:
		return fmt.Errorf("%q is not known: there are max-blob, max-timeout, rootfs and execute", key)
	}
	return nil
}
