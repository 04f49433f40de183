// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const minimal = "PACKAGE_NAME=p\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=o\nDEST_MODULE_LOCATION=/extra\n"

// load evaluates text and fails the test on anything but *Invalid.
func load(t *testing.T, l *Loader, ksd, text string, p Policy) *Module {
	t.Helper()
	file := filepath.Join(ksd, "dkms.conf")
	writeFile(t, file, text)
	r := request(ksd, file, testKernels[0])
	r.Policy = p
	m, err := l.Load(t.Context(), r)
	var invalid *Invalid
	if err != nil && !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	return m
}

func TestNoExec(t *testing.T) {
	tests := []struct {
		name, text, note string
	}{
		{"nothing refused", minimal + ". $kernel_source_dir/.config; PATCH=$CONFIG_HZ; : >/dev/null", ""},
		{"command", minimal + "PATCH=$(uname -r)", "command uname"},
		{"second evaluation", minimal + `PATCH='$(uname -r)'`, "command uname"},
		{"write", minimal + "echo x > $kernel_source_dir/written; PATCH=250", "write to "},
		{"append", minimal + "echo x >> $kernel_source_dir/written; PATCH=250", "write to "},
		{"recursion", "f() { g; }; g() { f; }; " + minimal + "f", "recursive"},
		{"other than bash", minimal + "printf -v PATCH %s 250", "printf"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l, ksd := testLoader(t)
			m := load(t, l, ksd, test.text, NoExec)
			notes := strings.Join(m.Notes, "; ")
			if m.Incomplete != (test.note != "") || !strings.Contains(notes, test.note) {
				t.Errorf("Incomplete %v, notes %q, want %q", m.Incomplete, notes, test.note)
			}
			if m.Name != "p" && test.name != "recursion" || test.note == "" && !slices.Equal(m.Patches, []string{"250"}) {
				t.Errorf("got %q, patches %q", m.Name, m.Patches)
			}
			if _, err := os.Stat(filepath.Join(ksd, "written")); err == nil {
				t.Error("the file was written")
			}
		})
	}
}

func TestLoadStopsWithContext(t *testing.T) {
	for name, text := range map[string]string{
		"loop":       "while :; do :; done",
		"command":    "sleep 60",
		"grandchild": "X=$(sh -c 'sleep 60 & wait')",
		"second":     minimal + `MAKE='$(sleep 60)'`,
	} {
		for _, p := range []Policy{Go, Bash} {
			l, ksd := testLoader(t)
			file := filepath.Join(ksd, "dkms.conf")
			writeFile(t, file, text)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			r := request(ksd, file, testKernels[0])
			r.Policy = p
			if _, err := l.Load(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s, policy %d: got %v", name, p, err)
			}
			cancel()
		}
	}
}

func TestUnreadable(t *testing.T) {
	l, ksd := testLoader(t)
	big := filepath.Join(ksd, "big")
	writeFile(t, big, strings.Repeat("#", maxConf+1))
	for _, file := range []string{ksd, filepath.Join(ksd, "nosuch"), big} {
		var unreadable *Unreadable
		if _, err := l.Load(t.Context(), request(ksd, file, "k")); !errors.As(err, &unreadable) || unreadable.File != file {
			t.Errorf("%s: got %v", file, err)
		}
	}
}

func TestStderrIsShownOnce(t *testing.T) {
	for _, p := range []Policy{Auto, Go} {
		l, ksd := testLoader(t)
		var stderr bytes.Buffer
		l.Stderr = &stderr
		load(t, l, ksd, minimal+"echo out; echo err >&2; cat <<<extern >&2", p)
		if got := stderr.String(); got != "err\nextern\n" {
			t.Errorf("policy %d: got %q", p, got)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for _, p := range []Policy{Go, Bash} {
		l, ksd := testLoader(t)
		l.Environ = append(l.Environ, "VISIBLE=v", "DKMS_DIRECTIVE_A=POST_ADD=forced $x", "DKMS_DIRECTIVE_B=dkms_tree=bad", "arch=env", "PRE_BUILD=env")
		m := load(t, l, ksd, minimal+`POST_BUILD="$VISIBLE$CC$MAKE"; PRE_INSTALL=$(sh -c 'echo $VISIBLE$CC$arch$kernelver')`, p)
		got := []string{m.PostAdd, m.PostBuild, m.PreInstall, m.PreBuild}
		if want := []string{"forced $x", "v", "vx86_64", ""}; !slices.Equal(got, want) {
			t.Errorf("policy %d: got %q, want %q", p, got, want)
		}
	}
}

func TestSecondEvaluationGlobs(t *testing.T) {
	for _, p := range []Policy{Go, Bash} {
		l, ksd := testLoader(t)
		writeFile(t, filepath.Join(l.Dir, "a.c"), "")
		writeFile(t, filepath.Join(l.Dir, "b.c"), "")
		m := load(t, l, ksd, minimal+`MAKE="cc *.c -o x"; PATCH="*.c"; POST_ADD=" *.h ? *"`, p)
		got := []string{m.Make, m.Vars.Get("PATCH"), m.PostAdd}
		if want := []string{"cc a.c b.c -o x", "*.c", " *.h ? *"}; !slices.Equal(got, want) {
			t.Errorf("policy %d: got %q, want %q", p, got, want)
		}
	}
}

func TestFramework(t *testing.T) {
	l, _ := testLoader(t)
	l.Environ = append(l.Environ, "parallel_jobs=7", "verbose=env", "sign_file=env", "mok_certificate=env")
	f, err := l.Framework(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if f.Verbose || f.ParallelJobs != "7" || f.SourceTree != l.Paths.SourceTree || f.CompressZstdOpts != "-q --rm -T0" || f.SignFile != "env" {
		t.Errorf("defaults: %+v", f)
	}
	confD := filepath.Join(l.Paths.ConfDir, "framework.conf.d")
	if err := os.MkdirAll(filepath.Join(confD, "dir.conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(l.Paths.ConfDir, "framework.conf"), "dkms_tree=\"/srv/dkms\"\nsymlink_modules=yes\n"+
		"mok_signing_key='/keys/$kernelver.key'\nmok_certificate=${mok_signing_key%.key}.pub\nPATH=/nowhere\nmodule=hijack\n")
	writeFile(t, filepath.Join(confD, "b.conf"), "dkms_tree=$dkms_tree/b\r\n")
	writeFile(t, filepath.Join(confD, "a.conf"), "dkms_tree=$dkms_tree/a; compress_xz_opts=; try_sign_modules=true\n")
	writeFile(t, filepath.Join(confD, "c.conf.bak"), "dkms_tree=/bad\n")
	f, err = l.Framework(t.Context(), "6.1.0")
	if err != nil {
		t.Fatal(err)
	}
	got := []string{f.DKMSTree, f.MOKSigningKey, f.MOKCertificate, f.CompressXZOpts, f.TrySignModules, f.SignFile}
	want := []string{"/srv/dkms/a/b", "/keys/6.1.0.key", "/keys/6.1.0.pub", "", "true", "env"}
	if !slices.Equal(got, want) || !f.SymlinkModules {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestMatches compares with bash's =~.
func TestMatches(t *testing.T) {
	patterns := []string{
		"", "^6", "x86", "x86_64|aarch64", "^(5\\.(4|1[0-9])|6\\.[0-9]+)\\..*$", "6.1", "^6\\.1", "amd64$", "(amd|arm)64",
		"*", "a**", "+", "a|*b", "(", ")", "6)", "[", "[]-]", "[^]6]", "[\\.]", "[a-", "[z-a]", "[[:digit:]]{2}", "[[:nope:]]", "[[.-.]]", "[[=6=]]",
		"6{1}", "6{,2}", "6{2,1}", "6{", "6{x}", "a{2}{1}", "()", "(|6)", "\\d", "\\w+-\\W*", "\\s", "\\b6", "\\<6", "a\\", "(6)\\1", "6+?", "(6*)*", "^*6", "6$1",
		"not for this kernel", "(?i)AMD", "(?:6)", "\\.1\\.", "5.4.0-(1[0-9]{3})-azure", "^[3-6]\\.([0-9]|1[0-9])[^0-9]", "x{1001}", "\\Q6", "é",
	}
	subjects := []string{"6.1.0-56-amd64", "6.12.117+deb12-amd64", "x86_64", "", "a66"}
	var script strings.Builder
	for _, p := range patterns {
		for _, s := range subjects {
			script.WriteString("p=" + quote(p) + "; if [[ " + quote(s) + " =~ $p ]]; then echo y; else echo n; fi 2>/dev/null\n")
		}
	}
	cmd := exec.Command("bash", "-c", script.String())
	cmd.Env = []string{"LC_ALL=C.UTF-8"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := strings.Fields(string(out))
	for i, p := range patterns {
		for j, s := range subjects {
			got, want := matches(p, s), answers[i*len(subjects)+j] == "y"
			if got != want && p != "(6)\\1" && p != "x{1001}" { // Go has no back references
				t.Errorf("%q =~ %q: got %v, bash says %v", s, p, got, want)
			}
		}
	}
}

func TestApplies(t *testing.T) {
	two := "PACKAGE_NAME=p\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=(a b)\nDEST_MODULE_LOCATION=(/extra /extra)\n"
	k := testKernels[0]
	tests := []struct {
		name, text string
		objects    []bool
		reason     string // of the module, "" if it applies
		exclusive  bool
	}{
		{"free", two, []bool{true, true}, "", false},
		{"index 0 is for all", two + `BUILD_EXCLUSIVE_KERNEL[0]="^5\."`, []bool{false, false}, `BUILD_EXCLUSIVE_KERNEL "^5\." does not match ` + k, true},
		{"one object", two + `BUILD_EXCLUSIVE_KERNEL[1]="^5\."`, []bool{true, false}, "", true},
		{"index beyond the objects", two + `BUILD_EXCLUSIVE_KERNEL[2]="^5\."`, []bool{true, true}, "", false},
		{"min", two + "BUILD_EXCLUSIVE_KERNEL_MIN=6.2", []bool{false, false}, k + " is older than BUILD_EXCLUSIVE_KERNEL_MIN 6.2", true},
		{"max equal is too small", two + "BUILD_EXCLUSIVE_KERNEL_MAX=6.1.0", []bool{false, false}, k + " is newer than BUILD_EXCLUSIVE_KERNEL_MAX 6.1.0", true},
		{"max", two + "BUILD_EXCLUSIVE_KERNEL_MAX=6.1.1", []bool{true, true}, "", true},
		{"obsolete", two + "OBSOLETE_BY=5.10", []bool{false, false}, k + " is newer than OBSOLETE_BY 5.10", true},
		{"obsolete and max of an object", two + "OBSOLETE_BY=5.10; BUILD_EXCLUSIVE_KERNEL_MAX[1]=5.10", []bool{true, false}, "", true},
		{"arch", two + `BUILD_EXCLUSIVE_ARCH="(arm|riscv)"`, []bool{false, false}, `BUILD_EXCLUSIVE_ARCH "(arm|riscv)" does not match x86_64`, true},
		{"arch is unanchored", two + `BUILD_EXCLUSIVE_ARCH=x86`, []bool{true, true}, "", true},
		{"config", two + `BUILD_EXCLUSIVE_CONFIG="CONFIG_ACPI CONFIG_USB_HID !CONFIG_NUMA"`, []bool{true, true}, "", true},
		{"config is no tristate", two + `BUILD_EXCLUSIVE_CONFIG=CONFIG_HZ`, []bool{false, false}, "BUILD_EXCLUSIVE_CONFIG: CONFIG_HZ is not set in .config", true},
		{"config unwanted", two + `BUILD_EXCLUSIVE_CONFIG[1]=!CONFIG_USB_HID`, []bool{true, false}, "", true},
		{"bad expression", two + `BUILD_EXCLUSIVE_KERNEL="("`, []bool{false, false}, `BUILD_EXCLUSIVE_KERNEL "(" does not match ` + k, true},
		{"no objects", "PACKAGE_NAME=p\nPACKAGE_VERSION=1\nBUILD_EXCLUSIVE_ARCH=none", nil, "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l, ksd := testLoader(t)
			m := load(t, l, ksd, test.text, Auto)
			if v := m.Applies(testFacts(k)); v.Reason != test.reason || v.OK != (test.reason == "") {
				t.Errorf("module: got %+v, want %q", v, test.reason)
			}
			for i, want := range test.objects {
				if v := m.ObjectApplies(i, testFacts(k)); v.OK != want {
					t.Errorf("object %d: got %+v", i, v)
				}
			}
			if m.HasExclusive() != test.exclusive {
				t.Errorf("HasExclusive: got %v", m.HasExclusive())
			}
			facts := testFacts(k)
			facts.Config = nil
			if strings.Contains(test.text, "CONFIG=") && !m.Applies(facts).OK {
				t.Error("CONFIG was checked without a configuration")
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, name := range []string{"many", "none"} {
		b.Run(name, func(b *testing.B) {
			l, ksd := testLoader(b)
			_, files := readArchive(b, "testdata/"+name+".txtar")
			file := filepath.Join(ksd, "dkms.conf")
			writeFile(b, file, files[0].Data)
			r := request(ksd, file, testKernels[0])
			for b.Loop() {
				if _, err := l.Load(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
