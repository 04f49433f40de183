// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/nearmiss"
)

// args is a parsed command line.
type args struct {
	action                           string
	module, version                  string
	kernels, arches                  []string
	kernelTree                       string
	directives, fields               []string
	conf, kconfig, ksource, template string
	archive, sourceDir               string
	dkmsTree, sourceTree, insTree    string
	root, jobs, output               string
	kernelList, html, ca, name       string
	signKey, keyFile, to             string
	trust, from                      []string
	set                              map[string]bool
	old                              []string
	odd                              []string
	// rest are the words behind an action that takes them as they are.
	rest []string
	// given are the options, by their names, in the order of the command line.
	given []string
	// place is the word that sourceDir or archive was taken from.
	place string
	// missing is a word that looks like a path and leads to nothing usable.
	missing string
	// stop is set by an option that ends parsing: --help or --version.
	stop string
}

// has reports whether a switch was given.
func (a *args) has(name string) bool { return a.set[name] }

// parse reads a command line as upstream does: words in any order, a value
// behind its option or, for long options, behind an equals sign; a word that
// is no option is an action, or else what it names: a dkms.conf, a directory
// with one, another file (an archive), or a module.
func parse(words []string) (*args, error) {
	a := &args{set: map[string]bool{}}
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if v := verbNamed(a.action); v != nil && v.Words && !strings.HasPrefix(word, "-") {
			a.rest = append(a.rest, word)
			continue
		}
		if !strings.HasPrefix(word, "-") {
			if err := a.positional(word); err != nil {
				return a, err
			}
			if v := verbNamed(a.action); v != nil && v.Raw && !helpAsked(words) {
				a.rest = words
				return a, a.check()
			}
			continue
		}
		o, value, inline, ok := find(word)
		if !ok {
			return a, usageError("unknown option %q%s", word, didYouMean(word, optionNames()))
		}
		if o.Arg != "" && !inline && len(words) > 0 {
			value, words = words[0], words[1:]
		}
		if value = firstLine(value); value == "" && o.Dir {
			return a, usageError("%s needs a directory", o.Name())
		}
		a.option(o, value)
		if a.stop != "" {
			a.findAction(words)
			return a, nil
		}
	}
	return a, a.check()
}

// helpAsked reports whether the first word asks for help.
func helpAsked(words []string) bool {
	return len(words) > 0 && (words[0] == "--help" || words[0] == "-h")
}

// firstLine is what upstream keeps of a value: the first line without blanks
// around it.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.Trim(s, " \t")
}

// findAction looks for the action behind a --help.
func (a *args) findAction(words []string) {
	for _, w := range words {
		if a.action == "" && verbNamed(w) != nil {
			a.action = w
		}
	}
}

func (a *args) option(o Option, value string) {
	targets := map[string]*string{
		"-v": &a.version, "-c": &a.conf, "--config": &a.kconfig, "--kernelsourcedir": &a.ksource,
		"--templatekernel": &a.template, "--archive": &a.archive, "--dkmstree": &a.dkmsTree,
		"--sourcetree": &a.sourceTree, "--installtree": &a.insTree, "--root": &a.root, "-j": &a.jobs, "--output": &a.output,
		"--kernels": &a.kernelList, "--html": &a.html, "--ca": &a.ca, "--name": &a.name, "--sign": &a.signKey, "--to": &a.to, "--bundle": &a.keyFile,
	}
	name := o.Name()
	if !o.Old {
		a.given = append(a.given, name)
	}
	switch {
	case o.Old:
		a.old = append(a.old, name)
	case targets[name] != nil:
		*targets[name] = value
		a.set[name] = true
	case name == "--module":
		a.setModule(value)
	case name == "--kernelver":
		a.kernel(value)
	case name == "--arch":
		a.arches = append(a.arches, value)
	case name == "--trust":
		a.trust = append(a.trust, value)
	case name == "--from":
		a.from = append(a.from, value)
	case name == "--directive":
		a.directives = append(a.directives, value)
	case name == "--field":
		a.fields = append(a.fields, value)
	case name == "--help" || name == "--version":
		a.stop = name
	default:
		a.set[name] = true
	}
}

func (a *args) setModule(s string) {
	name, version, found := strings.Cut(s, "/")
	a.module = name
	if found {
		a.version = version
	}
}

// kernel takes <release>, <release>/<arch>, or the path of a kernel tree.
func (a *args) kernel(s string) {
	if filepath.IsAbs(s) || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") {
		if fi, err := os.Stat(s); err == nil && fi.IsDir() {
			a.kernelTree, _ = filepath.Abs(s)
			return
		}
	}
	release, arch, found := strings.Cut(s, "/")
	a.kernels = append(a.kernels, release)
	if found {
		a.arches = append(a.arches, arch)
	}
}

func (a *args) positional(word string) error {
	fi, err := os.Stat(word)
	file := err == nil && fi.Mode().IsRegular()
	switch {
	case verbNamed(word) != nil:
		if a.action != "" {
			return &usage{code: codeTwoActions, text: fmt.Sprintf("both %s and %s are actions, say one at a time", a.action, word)}
		}
		a.action = word
	case file && strings.HasSuffix(word, "dkms.conf"):
		a.sourceDir, a.place = filepath.Dir(word), word
	case err == nil && fi.IsDir() && isFile(filepath.Join(word, "dkms.conf")):
		a.sourceDir, a.place = word, word
	case file:
		a.archive, a.place = word, word
	case strings.HasPrefix(word, "/"), strings.HasPrefix(word, "./"), strings.HasPrefix(word, "../"):
		a.missing = word
	case a.module == "":
		a.setModule(word)
	default:
		a.odd = append(a.odd, word)
	}
	return nil
}

// archiveName is the archive, or the word that was taken for a module because
// no file has that name.
func (a *args) archiveName() string {
	if a.archive == "" && a.missing != "" {
		return a.missing
	}
	if a.archive == "" && a.version != "" {
		return a.module + "/" + a.version
	}
	if a.archive == "" {
		return a.module
	}
	return a.archive
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}

// check finds options that contradict each other, in upstream's order.
func (a *args) check() error {
	switch {
	case a.has("--binaries-only") && a.has("--source-only"):
		return &usage{code: codeBothOnly, text: "--binaries-only and --source-only leave nothing to pack"}
	case len(a.arches) > 1 && len(a.arches) != len(a.kernels):
		return &usage{code: codeArchCount, text: fmt.Sprintf("%d architectures for %d kernels: give one -a, or one for each -k", len(a.arches), len(a.kernels))}
	case len(a.kernels) > 0 && a.has("--all"):
		return &usage{code: codeKernelAndAll, text: "-k and --all contradict each other"}
	case len(a.arches) > 0 && a.has("--all"):
		return &usage{code: codeArchAndAll, text: "-a and --all contradict each other"}
	}
	return nil
}

func optionNames() []string {
	var names []string
	for _, o := range optionTable {
		if o.Long != "" && !o.Old {
			names = append(names, o.Long)
		}
	}
	return names
}

// didYouMean suggests the nearest of the words people could have meant.
func didYouMean(word string, names []string) string {
	best := nearmiss.Find(word, names, 3)
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %s?", best)
}
