// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// sample is the source of a small module: files as written in the samples'
// archive, and objects to make C files and a Makefile for.
type sample struct {
	dir     string
	files   []txtar.File
	objects []string
}

// readSamples reads testdata/samples.txt. Lines "DIR: OBJECT..." before its
// files say what C files a directory has besides them.
func readSamples(t *testing.T) []sample {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "samples.txt"))
	if err != nil {
		t.Fatal(err)
	}
	byDir := map[string]*sample{}
	var order []string
	get := func(dir string) *sample {
		if byDir[dir] == nil {
			byDir[dir] = &sample{dir: dir}
			order = append(order, dir)
		}
		return byDir[dir]
	}
	for line := range strings.Lines(string(archive.Comment)) {
		dir, objects, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || strings.HasPrefix(dir, "#") {
			continue
		}
		get(dir).objects = strings.Fields(objects)
	}
	for _, f := range archive.Files {
		dir, name, ok := strings.Cut(f.Name, "/")
		if !ok {
			t.Fatalf("samples.txt: file %q is in no directory", f.Name)
		}
		s := get(dir)
		s.files = append(s.files, txtar.File{Name: name, Data: f.Data})
	}
	var all []sample
	for _, dir := range order {
		all = append(all, *byDir[dir])
	}
	return all
}

// write makes the sample below parent. Scripts, *.sh, can be executed; a file
// NAME.crlf becomes NAME with carriage returns.
func (s sample) write(parent string) error {
	dir := filepath.Join(parent, s.dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range s.files {
		mode := os.FileMode(0o644)
		name, data := f.Name, string(f.Data)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o755
		}
		if crlf, ok := strings.CutSuffix(name, ".crlf"); ok {
			name, data = crlf, strings.ReplaceAll(data, "\n", "\r\n")
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(data), mode); err != nil {
			return err
		}
	}
	return writeObjects(dir, s.objects)
}

// writeObjects writes a C file for each object, and a Makefile for all. An
// object is NAME[=VERSION][+WORD]: without a version there is no
// MODULE_VERSION, VERSION "empty" is an empty one, and WORD is a string that
// makes the object differ.
func writeObjects(dir string, objects []string) error {
	if len(objects) == 0 {
		return nil
	}
	var makefile strings.Builder
	for _, o := range objects {
		o, word, _ := strings.Cut(o, "+")
		name, version, versioned := strings.Cut(o, "=")
		if version == "empty" {
			version = ""
		}
		var c strings.Builder
		c.WriteString("#include <linux/module.h>\n")
		if word != "" {
			fmt.Fprintf(&c, "int %s_%s;\nEXPORT_SYMBOL(%s_%s);\n", filepath.Base(name), word, filepath.Base(name), word)
		}
		c.WriteString("MODULE_DESCRIPTION(\"a sample\");\nMODULE_LICENSE(\"GPL\");\n")
		if versioned {
			fmt.Fprintf(&c, "MODULE_VERSION(%q);\n", version)
		}
		path := filepath.Join(dir, name+".c")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(c.String()), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&makefile, "obj-m += %s.o\n", name)
	}
	path := filepath.Join(dir, "Makefile")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return os.WriteFile(path, []byte(makefile.String()), 0o644)
}
