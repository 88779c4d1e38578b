package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/actionfile"
)

func completionCommand() command {
	return command{
		Name: "completion", Args: "bash|zsh|fish",
		Short: "print the completion script of a shell",
		Long: `
Prints a script that lets a shell complete commands, flags, their values and the
targets of action files. The script asks this program, so it is never out of date.

  bash   eval "$(sbx-action completion bash)"   in ~/.bashrc
  zsh    eval "$(sbx-action completion zsh)"    in ~/.zshrc, after compinit
  fish   sbx-action completion fish > ~/.config/fish/completions/sbx-action.fish
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			return func(_ context.Context, args []string) error {
				if len(args) > 0 && args[0] == "words" { // what the scripts ask
					for _, w := range complete(args[1:]) {
						fmt.Println(w)
					}
					return nil
				}
				if len(args) != 1 || completionScripts[args[0]] == "" {
					return errors.New("want the name of a shell: bash, zsh or fish")
				}
				_, err := fmt.Print(completionScripts[args[0]])
				return err
			}
		},
	}
}

// Words that the scripts understand, in the place of words to choose from.
const (
	completeFiles   = ":files"
	completeCommand = ":command" // a command line of its own begins
)

// complete returns what the last of the words, which follow the program's name,
// can become; the last one is what has been typed of it.
func complete(words []string) []string {
	if len(words) == 0 {
		return nil
	}
	typed, before := words[len(words)-1], words[:len(words)-1]
	if len(before) == 0 {
		list := []string{"help"}
		for _, c := range program().Commands {
			list = append(list, c.Name)
		}
		return beginning(list, typed)
	}
	c, ok := program().Lookup(before[0])
	if !ok || c.Setup == nil {
		if before[0] == "help" && len(before) == 1 {
			return complete([]string{typed})
		}
		return []string{completeFiles}
	}
	if slices.Contains(before, "--") {
		return []string{completeCommand}
	}
	flags := c.Flags()
	if len(before) > 1 {
		if f := flagOf(flags, before[len(before)-1]); f != nil && !isBool(f) {
			return flagValues(f, typed)
		}
	}
	if strings.HasPrefix(typed, "-") {
		list := []string{"--help"}
		flags.VisitAll(func(f *flag.Flag) { list = append(list, dashed(f.Name)) })
		if c.Name == "run" || c.Name == "explain" {
			list = append(list, "--")
		}
		return beginning(list, typed)
	}
	return argumentsOf(c, flags, before[1:], typed)
}

// argumentsOf completes what is no flag.
func argumentsOf(c command, flags *flag.FlagSet, before []string, typed string) []string {
	switch c.Name {
	case "run", "graph":
		file := ""
		for i, w := range before {
			if f := flagOf(flags, w); f != nil && f.Name == "f" && i+1 < len(before) {
				file = before[i+1]
			}
		}
		if file == "" && c.Name == "graph" {
			file, _ = actionfile.Find(".")
		}
		if graph, _, err := loadGraph(file, "", nil); file != "" && err == nil {
			return beginning(graph.Targets(), typed)
		}
	case "completion":
		return beginning([]string{"bash", "zsh", "fish"}, typed)
	case "config":
		return beginning([]string{"show", "list"}, typed)
	case "man":
		return complete([]string{typed})
	}
	return []string{completeFiles}
}

func flagOf(flags *flag.FlagSet, word string) *flag.Flag {
	if !strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
		return nil
	}
	return flags.Lookup(strings.TrimLeft(word, "-"))
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// flagValues completes the value of a flag.
func flagValues(f *flag.Flag, typed string) []string {
	if c, ok := f.Value.(*choice); ok {
		return beginning(c.words, typed)
	}
	switch f.Name {
	case "backend":
		return beginning(wiring.BackendNames(), typed)
	case "digest":
		return beginning([]string{"blake3", "sha256"}, typed)
	case "rootfs":
		list := []string{"host"}
		if dir, err := wiring.CacheDir(""); err == nil {
			if named, err := (wiring.Rootfs{Store: dir}).List(); err == nil {
				for _, e := range named {
					list = append(list, e.Name)
				}
			}
		}
		return append(beginning(list, typed), completeFiles)
	case "timeout", "memory", "scratch", "pids", "jobs", "j", "memory-budget", "env":
		return nil
	}
	return []string{completeFiles}
}

func beginning(list []string, with string) (out []string) {
	for _, s := range list {
		if strings.HasPrefix(s, with) && !strings.ContainsAny(s, "\n\r") {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// completionScripts hand what was typed to "completion words", and do what it
// says.
var completionScripts = map[string]string{
	"bash": `_sbx_action() {
	local IFS=$'\n' cur=${COMP_WORDS[COMP_CWORD]} word i
	COMPREPLY=()
	while read -r word; do
		case $word in
		:files)
			compopt -o filenames 2>/dev/null
			COMPREPLY+=($(compgen -f -- "$cur")) ;;
		:command)
			for ((i = 1; i < COMP_CWORD; i++)); do
				[ "${COMP_WORDS[i]}" = -- ] && break
			done
			if declare -F _command_offset >/dev/null; then
				_command_offset $((i + 1))
			elif ((i + 1 == COMP_CWORD)); then
				COMPREPLY+=($(compgen -c -- "$cur" | sort -u))
			else
				compopt -o filenames 2>/dev/null
				COMPREPLY+=($(compgen -f -- "$cur"))
			fi ;;
		*)
			COMPREPLY+=("$(printf %q "$word")") ;;
		esac
	done < <("${COMP_WORDS[0]}" completion words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _sbx_action sbx-action
`,
	"zsh": `#compdef sbx-action
_sbx_action() {
	local word at
	local -a list
	for word in "${(@f)$("${words[1]}" completion words "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
		case $word in
		:files) _files ;;
		:command)
			at=${words[(i)--]}
			shift $at words
			((CURRENT -= at))
			_normal
			return ;;
		'') ;;
		*) list+=("$word") ;;
		esac
	done
	((${#list})) && compadd -- "${list[@]}"
}
compdef _sbx_action sbx-action
`,
	"fish": `function __sbx_action
	set -l words (commandline -opc)
	for word in (command $words[1] completion words $words[2..] (commandline -ct) 2>/dev/null)
		switch $word
			case :files
				__fish_complete_path (commandline -ct)
			case :command
				set -l at (contains -i -- -- $words)
				complete -C (string join ' ' -- (string escape -- $words[(math $at + 1)..]) (commandline -ct))
			case '*'
				echo $word
		end
	end
end
complete -c sbx-action -f -a '(__sbx_action)'
`,
}
