package images

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// schrootSource finds the directory or the file of a schroot definition: the
// groups in schroot.conf and in the files of chroot.d below dir
// (schroot.conf(5)).
func schrootSource(dir, name string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "chroot.d", "*"))
	if err != nil {
		return "", err
	}
	var known []string
	for _, file := range append([]string{filepath.Join(dir, "schroot.conf")}, files...) {
		groups, err := schrootGroups(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		for _, g := range groups {
			if g.name == name || slices.Contains(strings.Split(g.keys["aliases"], ","), name) {
				return g.source(file)
			}
			known = append(known, g.name)
		}
	}
	return "", fmt.Errorf("no schroot of that name: there are %q in %s", known, dir)
}

type schrootGroup struct {
	name string
	keys map[string]string
}

func schrootGroups(file string) ([]schrootGroup, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []schrootGroup
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			list = append(list, schrootGroup{strings.Trim(line, "[]"), map[string]string{}})
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || len(list) == 0 {
			return nil, fmt.Errorf("%s:%d: want [NAME] or KEY=VALUE", file, n)
		}
		list[len(list)-1].keys[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return list, lines.Err()
}

func (g schrootGroup) source(file string) (string, error) {
	kind := g.keys["type"]
	key := map[string]string{"": "directory", "plain": "directory", "directory": "directory", "file": "file"}[kind]
	if key == "" {
		return "", fmt.Errorf("the schroot %s is of type %q: want directory, plain or file", g.name, kind)
	}
	place := g.keys[key]
	if !filepath.IsAbs(place) {
		return "", fmt.Errorf("%s: [%s] has no absolute %s", file, g.name, key)
	}
	if at := g.keys["location"]; at != "" { // a directory in the archive
		return "", fmt.Errorf("%s: [%s] has a location inside of its file, which is not supported: unpack it and import the directory", file, g.name)
	}
	return place, nil
}
