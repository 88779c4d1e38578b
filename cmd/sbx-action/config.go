package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/sbx-action/sbx-action/cmd/commandline"
)

func configCommand() command {
	return command{
		Name: "config", Args: "[FLAGS] show|list",
		Short: "show the settings, and where each came from",
		Long: `
A flag that is not given has the value of the setting that has its name, the first
that is there of:

  the variable SBX_NAME of the environment, for a flag --name ("-" is "_")
  the file .sbx-action of the project: in the workspace or above it
  the file sbx-action/settings of the user, in $XDG_CONFIG_HOME or ~/.config

A file has a line NAME = VALUE for each, and comments that begin with "#":

  # builds of this project
  rootfs = debian12
  timeout = 10m

A project's file may not set everything, because it comes from whoever wrote the
project: 'list' says what it may. Servers and workers belong to no project.

'show' prints each setting with its value and where that came from; 'list' says
what they are for.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var workspace string
			flags.Var((*given)(&workspace), "workspace", "`DIR` whose project is meant (default: the current directory)")
			asJSON := flags.Bool("json", false, "print a list of objects, for programs")
			return anywhere(flags, func(_ context.Context, args []string) error {
				if len(args) != 1 || args[0] != "show" && args[0] != "list" {
					return fmt.Errorf("want show or list, as in 'sbx-action config show'")
				}
				if workspace == "" {
					workspace = "."
				}
				if args[0] == "list" {
					return configList(*asJSON)
				}
				return configShow(workspace, *asJSON)
			})
		},
	}
}

// A shownSetting is one line of config.
type shownSetting struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Origin  string `json:"origin"`
	Env     string `json:"env"`
	Project bool   `json:"project"` // the project's file may set it
	Usage   string `json:"usage"`
}

func shownSettings(values []commandline.Value) (list []shownSetting) {
	run := runCommand().Flags()
	for _, s := range commandline.Settings() {
		shown := shownSetting{Name: s.Name, Env: s.Env, Project: s.Project, Origin: "default"}
		if f := run.Lookup(s.Name); f != nil {
			_, usage := flag.UnquoteUsage(f)
			shown.Value, shown.Usage = f.DefValue, strings.ReplaceAll(usage, "\n", " ")
		}
		for _, v := range values {
			if v.Name == s.Name {
				shown.Value, shown.Origin = v.Value, v.Origin
			}
		}
		list = append(list, shown)
	}
	return list
}

func configShow(workspace string, asJSON bool) error {
	values, err := commandline.GivenSettings(workspace)
	if err != nil {
		return err
	}
	list := shownSettings(values)
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(list)
	}
	run := runCommand().Flags()
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	var bad error
	for _, s := range list {
		if s.Origin != "default" && bad == nil {
			if err := run.Lookup(s.Name).Value.Set(s.Value); err != nil {
				bad = fmt.Errorf("%s: %s = %q: %w", s.Origin, s.Name, s.Value, err)
			}
		}
		value := s.Value
		if value == "" || s.Origin == "default" && value == "0" {
			value = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, value, s.Origin)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return bad
}

func configList(asJSON bool) error {
	list := shownSettings(nil)
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(list)
	}
	for _, s := range list {
		project := ""
		if s.Project {
			project = "; a project's file may set it"
		}
		fmt.Printf("%s (%s%s)\n    %s\n", s.Name, s.Env, project, s.Usage)
	}
	return nil
}
