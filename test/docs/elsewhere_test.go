// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// elsewhere has the commands that can't run in a root without a network, systemd or a
// kernel of its own, or that would compile once more, and who runs them: a test, or
// the line of a file.
var elsewhere = map[string]string{
	"make demo":      "test/docs TestDemo",
	"make packages":  "Makefile lint lab packages",
	"make build man": "Makefile packages: build man",
	"make install DESTDIR=/tmp/stage FAMILY=arch":                "test/packages TestInstall",
	"sudo apt-get install ./dist/dkms-go_*.deb":                  "test/packages TestSwitch",
	"sudo apt-get install ./dkms-go_*.deb":                       "test/packages TestSwitch",
	"sudo apt-get install dkms":                                  "test/packages TestSwitch",
	"sudo dnf swap dkms ./dkms-go-*.rpm":                         "test/packages TestRpm", // by rpm: Debian has no dnf to run
	"sudo dnf swap dkms-go dkms":                                 "test/packages TestRpm",
	"sudo apt-get install linux-image-amd64 linux-headers-amd64": "test/upgrade TestUpgrade",
	"sudo apt-get install linux-headers-6.12.117+deb12-amd64":    "test/doctor TestPackages",
	"sudo apt-get install make gcc-12":                           "test/doctor TestPackages",
	"sudo mount -o remount,rw /var":                              "test/doctor TestModules",
	"sudo modprobe -r hello":                                     "test/doctor TestRunning",
	"sudo modprobe hello":                                        "test/doctor TestRunning",
	"sudo dkms build hello/1.0 --force":                          "test/scripts TestScripts",
	"journalctl -t dkms":                                         "test/scripts TestScripts", // what is sent
}

// TestDemo runs the demonstration, whose builds take most of a minute; CI, whose time
// is short, only asks make for it.
func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	args := []string{"-C", lab.Repo(t), "demo"}
	if os.Getenv("CI") == "true" {
		args = append(args, "-n")
	}
	lab.MustExec(t, "make", args...)
}

// TestElsewhere wants what the table names to exist, and each command to be in a page.
func TestElsewhere(t *testing.T) {
	used := map[string]bool{}
	for _, page := range pages(t) {
		for _, b := range Blocks(t, page) {
			for _, l := range b.Lines {
				used[l.Command()] = true
			}
		}
	}
	for command, by := range elsewhere {
		if !used[command] {
			t.Errorf("no page has the command %s", command)
		}
		where, what, ok := strings.Cut(by, " ")
		path := filepath.Join(lab.Repo(t), strings.TrimSuffix(where, ":"))
		info, err := os.Stat(path)
		if err != nil {
			t.Errorf("%s: %v", command, err)
			continue
		}
		files := []string{path}
		if info.IsDir() {
			files, _ = filepath.Glob(filepath.Join(path, "*_test.go"))
			what = "func " + what + "("
		}
		found := !ok
		for _, file := range files {
			found = found || strings.Contains(read(t, file), what)
		}
		if !found {
			t.Errorf("%s: %s has no %q", command, where, what)
		}
	}
}

// symptoms are the troubles that docs/troubleshooting.md must have a section of, with
// what of test/doctor makes and mends them.
var symptoms = map[string]string{
	"Module not loading after install":    `"module not loading after install"`,
	"Build failure":                       `"build failure"`,
	"Module file not found":               `"module file not found"`,
	"Dependency issues":                   `"dependency issues"`,
	"Permission errors":                   `"permission errors"`,
	"Missing headers":                     `"missing headers"`,
	"Missing toolchain":                   `"missing toolchain"`,
	"Kernel outside the supported range":  `"kernel outside the supported range"`,
	"Driver not loaded after restart":     "func TestRunning(",
	"Automatic kernel update not rebuilt": `"automatic kernel update not rebuilt"`,
	"Wrong package order":                 `"wrong package order"`,
}

// TestSymptoms wants a section and a test for each.
func TestSymptoms(t *testing.T) {
	page := read(t, filepath.Join(lab.Repo(t), "docs", "troubleshooting.md"))
	files, _ := filepath.Glob(filepath.Join(lab.Repo(t), "test", "doctor", "*_test.go"))
	var tests strings.Builder
	for _, file := range files {
		tests.WriteString(read(t, file))
	}
	for heading, test := range symptoms {
		if !strings.Contains(page, "\n## "+heading+"\n") {
			t.Errorf("docs/troubleshooting.md has no section %q", heading)
		}
		if !strings.Contains(tests.String(), test) {
			t.Errorf("test/doctor has no test %s", test)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
