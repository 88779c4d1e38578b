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
			return func(ctx context.Context, args []string) error {
				if len(args) > 0 && args[0] == "words" { // what the scripts ask
					for _, w := range complete(ctx, args[1:]) {
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
func complete(ctx context.Context, words []string) []string {
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
	if before[0] == "help" && len(before) == 1 {
		return complete(ctx, []string{typed})
	}
	c, ok := program().Lookup(before[0])
	if ok && c.Setup == nil {
		c, ok = whole(ctx).Lookup(before[0])
	}
	if !ok || c.Setup == nil {
		return []string{completeFiles}
	}
	if slices.Contains(before, "--") {
		return []string{completeCommand}
	}
	flags := c.Flags()
	word := wordOf(flags, before[1:])
	if i := slices.IndexFunc(c.Words, func(w command) bool { return w.Name == word }); i >= 0 {
		if of := c.Words[i].Flags(); hasFlags(of) {
			flags = of
		}
	}
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
	if list := wordsOf(c, word, typed); list != nil {
		return list
	}
	return argumentsOf(ctx, c, flags, before[1:], typed)
}

// wordOf is the first word that is neither a flag nor a flag's value.
func wordOf(flags *flag.FlagSet, words []string) string {
	for i, w := range words {
		if strings.HasPrefix(w, "-") {
			continue
		}
		if i > 0 {
			if f := flagOf(flags, words[i-1]); f != nil && !isBool(f) {
				continue
			}
		}
		return w
	}
	return ""
}

// wordsOf completes the first word of a command that has words of its own, and
// what follows it, if that is no file.
func wordsOf(c command, word, typed string) []string {
	switch {
	case len(c.Words) == 0:
		return nil
	case word != "":
		if c.Name == "rootfs" && slices.Contains([]string{"show", "export", "rm"}, word) {
			return append(beginning(rootfsNames(), typed), completeFiles)
		}
		return nil
	}
	var list []string
	for _, w := range c.Words {
		list = append(list, w.Name)
	}
	list = beginning(list, typed)
	if c.Name == "build" { // or a target
		list = append(list, completeFiles)
	}
	return list
}

func hasFlags(flags *flag.FlagSet) (has bool) {
	flags.VisitAll(func(*flag.Flag) { has = true })
	return has
}

// rootfsNames are what --rootfs can name.
func rootfsNames() (names []string) {
	dir, err := wiring.CacheDir("")
	if err != nil {
		return nil
	}
	named, _ := (wiring.Rootfs{Store: dir}).List()
	for _, e := range named {
		names = append(names, e.Name)
	}
	return names
}

// argumentsOf completes what is no flag.
func argumentsOf(ctx context.Context, c command, flags *flag.FlagSet, before []string, typed string) []string {
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
		return complete(ctx, []string{typed})
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
		list := append([]string{"host"}, rootfsNames()...)
		return append(beginning(list, typed), completeFiles)
	case "timeout", "memory", "scratch", "pids", "jobs", "j", "memory-budget", "env", "listen", "concurrency", "max-timeout", "max-size", "max-files", "cache-size", "component-memory", "max-jobs", "arch", "scheduler", "storage":
		return nil
	case "overlaps":
		return beginning([]string{"ignore", "warn", "exit"}, typed)
	case "engine":
		return beginning([]string{"buildbarn", "bots"}, typed)
	case "format": // of build; graph has a choice
		return beginning([]string{"text", "dot", "json"}, typed)
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
