// Typecheck checks the types of the whole module, its tests among it, for other
// systems:
//
//	go run ./internal/typecheck freebsd/amd64 darwin/amd64
//
// It finds what a build or 'go vet' for that system would find to be no Go, and reads
// all packages from their sources for it: no standard library has to be compiled for
// each system, which takes ten times as long.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	code := 0
	for _, system := range os.Args[1:] {
		n, err := check(system, "./...")
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s:\n%v\n", system, err)
			code = 1
			continue
		}
		fmt.Printf("%s: %d packages\n", system, n)
	}
	os.Exit(code)
}

// A listed package is what go list says of it.
type listed struct {
	ImportPath, Name, Dir string
	GoFiles               []string
	ImportMap             map[string]string
	DepOnly               bool
	Module                *struct{ GoVersion string }
	Error                 *struct{ Err string }
}

// check says how many packages the pattern names on the system, and what is wrong in them.
func check(system, pattern string) (int, error) {
	goos, goarch, ok := strings.Cut(system, "/")
	if !ok {
		return 0, fmt.Errorf("%q is no system like freebsd/amd64", system)
	}
	// What they depend on comes before them.
	list := exec.Command("go", "list", "-e", "-deps", "-test", "-json=ImportPath,Name,Dir,GoFiles,ImportMap,DepOnly,Module,Error", pattern)
	list.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return 0, fmt.Errorf("go list: %w", err)
	}
	c := checker{files: token.NewFileSet(), sizes: types.SizesFor("gc", goarch), done: map[string]*types.Package{"unsafe": types.Unsafe}}
	for packages := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := packages.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return 0, fmt.Errorf("go list: %w", err)
		}
		if p.Name == "main" && strings.HasSuffix(p.ImportPath, ".test") || p.ImportPath == "unsafe" {
			continue // made by go test
		}
		c.check(&p)
	}
	return c.n, errors.Join(c.wrong...)
}

type checker struct {
	files *token.FileSet
	sizes types.Sizes
	done  map[string]*types.Package
	n     int // of those that were asked for
	wrong []error
}

func (c *checker) check(p *listed) {
	if p.Error != nil {
		c.wrong = append(c.wrong, errors.New(p.Error.Err))
	}
	var files []*ast.File
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(c.files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			c.wrong = append(c.wrong, err)
			return
		}
		files = append(files, file)
	}
	config := types.Config{
		Sizes: c.sizes, Importer: importer{c, p.ImportMap},
		IgnoreFuncBodies: p.DepOnly, // as whoever uses them
		Error: func(err error) {
			if !p.DepOnly {
				c.wrong = append(c.wrong, err)
			}
		},
	}
	if p.Module != nil && p.Module.GoVersion != "" {
		config.GoVersion = "go" + p.Module.GoVersion
	}
	path, _, _ := strings.Cut(p.ImportPath, " ") // without what it is a variant for
	c.done[p.ImportPath], _ = config.Check(path, c.files, files, nil)
	if !p.DepOnly {
		c.n++
	}
}

// An importer knows what the paths mean in one package.
type importer struct {
	*checker
	means map[string]string
}

func (i importer) Import(path string) (*types.Package, error) {
	if real := i.means[path]; real != "" {
		path = real
	}
	if p := i.done[path]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("package %s is not there", path)
}
