// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/test/lab"
)

// first is the module of large trees that dkms itself builds and installs; the
// others are copies of what it left, under other names.
const first = "bench000"

// fourKernels adds headers, so that the root has those of four kernels.
func (m *machine) fourKernels() []string {
	m.t.Helper()
	k := lab.AptKernels(m.t)
	m.addKernel(k.Prev, false)
	m.addKernel(k.Cloud, false)
	older, newer := lab.Kernels(m.t)
	return []string{k.Prev, older, k.Cloud, newer}
}

// fillTree has n modules installed for each kernel.
func (m *machine) fillTree(kernels []string, n int) {
	m.t.Helper()
	m.installFirst(kernels)
	for i := 1; i < n; i++ {
		name := fmt.Sprintf("bench%03d", i)
		if _, err := os.Lstat(m.Path(tree, name)); err == nil {
			continue
		}
		m.copy(tree+"/"+first, first, name)
		m.copy("/usr/src/"+first+"-1.0", first, name)
		m.copy(tree+"/.log/"+first, first, name)
		for _, k := range kernels {
			for _, object := range m.objects(k) {
				m.copy(object, first, name)
			}
		}
	}
}

// installFirst has dkms build and install the first module.
func (m *machine) installFirst(kernels []string) {
	m.t.Helper()
	files := map[string]string{
		"dkms.conf": "PACKAGE_NAME=" + first + "\nPACKAGE_VERSION=1.0\nBUILT_MODULE_NAME=" + first + "\nDEST_MODULE_LOCATION=/updates\nAUTOINSTALL=yes\n",
		"Makefile":  "obj-m := " + first + ".o\n",
		first + ".c": "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\n" +
			"static int __init start(void) { return 0; }\nmodule_init(start);\n",
	}
	for name, text := range files {
		path := m.Path("usr/src", first+"-1.0", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			m.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
	for _, k := range kernels {
		if len(m.objects(k)) == 0 {
			m.MustRun("dkms", "install", first+"/1.0", "-k", k)
		}
	}
}

// objects returns the objects of the first module for a kernel.
func (m *machine) objects(kernel string) []string {
	found, _ := filepath.Glob(m.Path(modules, kernel, "updates/dkms", first+".ko*"))
	for i := range found {
		found[i] = strings.TrimPrefix(found[i], m.Dir)
	}
	return found
}

// copyKernels makes copies of a kernel without its image, under other
// releases, in which the first module is installed. It returns all n kernels.
func (m *machine) copyKernels(kernel string, n int) []string {
	m.t.Helper()
	m.addKernel(kernel, false)
	m.installFirst([]string{kernel})
	all := []string{kernel}
	for i := 1; i < n; i++ {
		release := strings.Replace(kernel, "-amd64", fmt.Sprintf("+%02d-amd64", i), 1)
		m.copy(modules+"/"+kernel, kernel, release)
		for _, link := range []string{"build", "source"} { // to the headers that are there
			m.MustRun("cp", "-aT", modules+"/"+kernel+"/"+link, modules+"/"+release+"/"+link)
		}
		for _, dir := range []string{first + "/1.0/" + kernel, first + "/kernel-" + kernel + "-x86_64", ".log/" + first + "/1.0/" + kernel} {
			m.copy(tree+"/"+dir, kernel, release)
		}
		all = append(all, release)
	}
	return all
}

// copy copies files and links; one word becomes another in their paths, in
// what links lead to and in text.
func (m *machine) copy(path, from, to string) {
	m.t.Helper()
	err := filepath.WalkDir(m.Path(path), func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := m.Path(strings.ReplaceAll(strings.TrimPrefix(file, m.Dir), from, to))
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(file)
			if err != nil {
				return err
			}
			os.Remove(target)
			return os.Symlink(strings.ReplaceAll(link, from, to), target)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if !bytes.Contains(data, []byte{0}) {
			data = bytes.ReplaceAll(data, []byte(from), []byte(to))
		}
		return os.WriteFile(target, data, 0o644)
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// installed checks that a status has n lines, all of modules that are
// installed and nothing else.
func (m *machine) installed(n int, status string) {
	m.t.Helper()
	lines := strings.Split(strings.TrimSpace(status), "\n")
	if bad := slices.IndexFunc(lines, func(l string) bool { return !strings.HasSuffix(l, ": installed") }); bad >= 0 {
		m.t.Fatalf("the tree is not as it should be: %s", lines[bad])
	}
	if len(lines) != n {
		m.t.Fatalf("the status has %d lines, want %d", len(lines), n)
	}
}
