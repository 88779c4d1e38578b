package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// remembered are the variables of packages of the light command that change while it
// runs, with why a process that answers one call after the other (sbx-action warm)
// may keep what is in them.
var remembered = map[string]string{
	"backends/backendtest/probe.kept":    "of the probe, which is no part of a call",
	"backends/backendtest/promise.marks": "of the checks of backends, which are no part of a call",
	"backends/native.groupNumber":        "no name is used twice",
	"cache.drafts":                       "no name is used twice",
	"cmd/sbx-action.calledAs":            "is set for each call",
	"cmd/sbx-action.promised":            "is forgotten for each call: program",
	"cmd/sbx-action.sayThrough":          "is forgotten for each call",
	"cmd/sbx-action.serving":             "is made for each call",
	"integration/cc.outputRooms":         "is written before it is read",
	"integration/cc.pieces":              "is written before it is read",
	"internal/blake3.waited":             "is about the processor",
	"internal/blake3.widest":             "is about the processor",
	"internal/durable.bootID":            "is the same for as long as the kernel runs",
	"internal/durable.fixMode":           "is forgotten for each call: ForgetUmask",
	"internal/durable.modeKnown":         "is forgotten for each call: ForgetUmask",
	"internal/front.reason":              "is set for each call: Stand",
	"internal/front.slack":               "is of how this process was started",
	"internal/helper.Binary":             "is this program's own, and sealed",
	"internal/sha256tree.begun":          "is the same number in every process",
	"staging.bootID":                     "is the same for as long as the kernel runs",
	"staging.hostAlone":                  "is forgotten for each call: ForgetHost",
	"staging.stagedTime":                 "is only read, by the kernel",
	"staging.hostWithNetwork":            "is forgotten for each call: ForgetHost",
}

// TestRememberedVariables finds variables of packages that change, in all that the
// light command is made of.
func TestRememberedVariables(t *testing.T) {
	imports := map[string][]string{}
	for _, f := range files(t, "../..") {
		if !f.test() {
			imports[f.dir()] = append(imports[f.dir()], f.imports...)
		}
	}
	parts := []string{"cmd/sbx-action"}
	for i := 0; i < len(parts); i++ {
		for _, imported := range imports[parts[i]] {
			dir, ours := strings.CutPrefix(imported, module+"/")
			if ours && !slices.Contains(parts, dir) {
				parts = append(parts, dir)
			}
		}
	}
	if len(parts) < 30 {
		t.Fatalf("the light command is made of %q only", parts)
	}
	found := map[string]bool{}
	for _, dir := range parts {
		for _, name := range changing(t, filepath.Join("../..", dir)) {
			found[dir+"."+name] = true
			if remembered[dir+"."+name] == "" {
				t.Errorf("%s.%s changes while a process runs: say in the table why the next call of a warm session may find it so, or let answer in cmd/sbx-action/warm_linux.go forget it", dir, name)
			}
		}
	}
	for name := range remembered {
		if !found[name] {
			t.Errorf("%s is in the table, and does not change, or is not there", name)
		}
	}
}

// changing returns the variables of a package that are written to, or of a type that
// is made for that.
func changing(t *testing.T, dir string) (list []string) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	v := &variables{changes: map[string]bool{}}
	var parsed []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				spec := s.(*ast.ValueSpec)
				v.specs = append(v.specs, spec)
				for _, n := range spec.Names {
					v.changes[n.Name] = v.changes[n.Name] || usesSync(spec)
				}
			}
		}
	}
	for _, f := range parsed {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, l := range n.Lhs {
						v.mark(l)
					}
				}
			case *ast.IncDecStmt:
				v.mark(n.X)
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					v.mark(n.X)
				}
			}
			return true
		})
	}
	for name, changes := range v.changes {
		if changes && name != "_" {
			list = append(list, name)
		}
	}
	return list
}

// usesSync says whether a variable is of a type of sync or atomic, or made by them.
func usesSync(v *ast.ValueSpec) (found bool) {
	look := func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && (x.Name == "sync" || x.Name == "atomic") {
				found = true
			}
		}
		return true
	}
	if v.Type != nil {
		ast.Inspect(v.Type, look)
	}
	for _, e := range v.Values {
		ast.Inspect(e, look)
	}
	return found
}

// A variables is the variables of a package, and whether they change.
type variables struct {
	changes map[string]bool
	specs   []*ast.ValueSpec
}

// mark notes that what e is a part of changes, if that is a variable of the package.
func (v *variables) mark(e ast.Expr) {
	for {
		switch x := e.(type) {
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.Ident:
			_, ours := v.changes[x.Name]
			if ours && x.Obj != nil { // it is declared in this file: at its top?
				spec, ok := x.Obj.Decl.(*ast.ValueSpec)
				ours = ok && slices.Contains(v.specs, spec)
			}
			if ours {
				v.changes[x.Name] = true
			}
			return
		default:
			return
		}
	}
}
