// SPDX-License-Identifier: Apache-2.0

// Package corpus_test builds, installs and removes real module packages for
// real kernels, and compares with what the distribution's own dkms 3.0.10 made
// of them: exit codes, installed files, and what modinfo says about each.
//
// The two differ on purpose in this: 3.4 doesn't sign in a chroot, so objects
// are compared without their signature.
package corpus_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"dkms-go/test/lab"
)

// TestCorpus takes each package of the lab through its life, for both kernels; in
// CI each third package, for one of them. At most two are under way at a time: each
// runs as many jobs as there are cores.
func TestCorpus(t *testing.T) {
	older, newer := lab.Kernels(t)
	e := expected(t)
	tools := map[string]bool{older: e.sameTools(t, older), newer: e.sameTools(t, newer)}
	var count tally
	slots := make(chan struct{}, 2)
	t.Run("packages", func(t *testing.T) {
		for i, p := range lab.Packages(t) {
			kernels := []string{older, newer}
			if os.Getenv("CI") == "true" { // whose time is short
				if i%3 > 0 {
					continue
				}
				want := e.find(t, p.Name, newer)
				kernels = kernels[i/3%2:][:1]
				if want != nil && want.Code == 0 {
					kernels = []string{newer} // few can be built for it
				}
			}
			t.Run(p.Name, func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				s := &subject{T: t, root: lab.BareScratch(t), count: &count}
				s.p = s.root.AddPackage(p.Name)
				s.name = p.Module + "/" + p.Version
				for _, k := range kernels {
					s.runs = append(s.runs, &trial{kernel: k, want: e.find(t, p.Name, k), tools: tools[k]})
				}
				s.life()
			})
		}
	})
	t.Logf("%d of %d records agree", count.agree, count.records)
	t.Logf("%d of %d objects have the build ID and %d of %d the digest recorded", count.sameID, count.ids, count.sameSum, count.sums)
}

// tally counts over all packages.
type tally struct {
	sync.Mutex
	records, agree int
	ids, sameID    int
	sums, sameSum  int
}

// subject is one package under test, in a root of its own.
type subject struct {
	*testing.T
	root  *lab.Root
	p     lab.Package
	name  string // module/version
	runs  []*trial
	count *tally
}

// trial is the package on one kernel.
type trial struct {
	kernel string
	want   *record // nil: nothing is recorded for this version
	tools  bool    // digests are comparable
	built  bool
	bad    bool // differs from the record
}

// differs fails the test because of one kernel.
func (s *subject) differs(run *trial, format string, args ...any) {
	s.Helper()
	run.bad = true
	s.Errorf("kernel %s: "+format, append([]any{run.kernel}, args...)...)
}

func (s *subject) dkms(args ...string) lab.Result {
	s.Helper()
	// The locale of the record, by which compilers choose quotes; kbuild
	// passes LC_ALL over.
	argv := append([]string{"LANG=C", "LC_ALL=C", lab.Binary(s), "--root", s.root.Dir}, args...)
	return lab.Exec(s, "env", argv...)
}

// must runs an action that has to succeed.
func (s *subject) must(args ...string) string {
	s.Helper()
	r := s.dkms(args...)
	if r.Code != 0 {
		s.Fatalf("dkms %q: exit code %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

func (s *subject) life() {
	s.must("add", s.name)
	s.wantStatus(s.name + ": added\n")
	s.build()
	var good []string
	lines := ""
	for _, run := range s.runs {
		if run.built {
			good = append(good, "-k", run.kernel)
			lines += fmt.Sprintf("%s, %s, x86_64: built\n", s.name, run.kernel)
		}
	}
	if lines != "" {
		s.wantStatus(lines)
		s.must(append([]string{"install", s.name}, good...)...)
		s.wantStatus(strings.ReplaceAll(lines, ": built", ": installed"))
		s.must("fsck") // all of it is in order
	} else {
		s.wantStatus(s.name + ": added\n")
	}
	for _, run := range s.runs {
		s.compare(run)
	}
	s.must("remove", s.name, "--all")
	s.wantNothing()
}

// build builds for both kernels, in one go if it is to succeed for both.
func (s *subject) build() {
	args := []string{"build", s.name}
	for _, run := range s.runs {
		if run.want == nil || run.want.Code != 0 {
			for _, run := range s.runs {
				s.buildFor(run)
			}
			return
		}
		args = append(args, "-k", run.kernel)
		run.built = true
	}
	s.must(args...)
}

func (s *subject) buildFor(run *trial) {
	r := s.dkms("build", s.name, "-k", run.kernel)
	run.built = r.Code == 0
	if run.want != nil && r.Code != run.want.Code {
		s.differs(run, "build: exit code %d, recorded is %d\n%s%s", r.Code, run.want.Code, r.Stdout, r.Stderr)
	}
	if !run.built {
		s.Logf("kernel %s: build: exit code %d\n%s", run.kernel, r.Code, r.Stderr)
		s.failure(run, r)
	}
}

// failure checks what a failed build says and leaves: the error names the log
// and shows an error from it, and nothing is there for the kernel.
func (s *subject) failure(run *trial, r lab.Result) {
	path := filepath.Join("/var/lib/dkms", s.name, "build/make.log")
	if !strings.Contains(r.Stderr, path) {
		s.differs(run, "the error doesn't name %s:\n%s", path, r.Stderr)
	}
	log, err := os.ReadFile(s.root.Path(path))
	if err != nil {
		s.differs(run, "%v", err)
		return
	}
	shown := regexp.MustCompile(`(?m)\S+ (fatal )?error: .*$`).FindString(r.Stderr)
	shown = strings.TrimPrefix(shown, "first error: ")
	if shown == "" || !strings.Contains(string(log), shown) {
		s.differs(run, "the error shows none of its log:\n%s", r.Stderr)
	}
	// With several jobs another file of the module may be the first to fail.
	if run.want != nil && !strings.Contains(shown, run.want.Error) {
		s.Logf("kernel %s: the first error is %q, recorded is %q", run.kernel, shown, run.want.Error)
	}
	if left := s.root.Path("var/lib/dkms", s.name, run.kernel); exists(left) {
		s.differs(run, "a failed build left %s", left)
	}
}

// compare holds what is installed for a kernel against the record.
func (s *subject) compare(run *trial) {
	installed := s.installed(run.kernel)
	for _, file := range installed {
		if got := s.modinfo(run.kernel, file, "vermagic"); !strings.HasPrefix(got, run.kernel+" ") {
			s.differs(run, "%s has vermagic %q", file, got)
		}
	}
	if (len(installed) > 0) != run.built {
		s.differs(run, "built: %v, installed: %q", run.built, installed)
	}
	if run.want == nil {
		s.Logf("kernel %s: nothing is recorded for package version %s; built: %v", run.kernel, packageVersion(s.T, s.p.Name), run.built)
		return
	}
	var want []string
	for _, o := range run.want.Objects {
		want = append(want, o.File)
	}
	if !slices.Equal(installed, want) {
		s.differs(run, "installed: %q\nrecorded: %q", installed, want)
	} else {
		for _, o := range run.want.Objects {
			s.compareObject(run, o)
		}
	}
	s.count.Lock()
	defer s.count.Unlock()
	s.count.records++
	if !run.bad {
		s.count.agree++
		s.Logf("kernel %s: agrees: build exit code %d, %d objects", run.kernel, run.want.Code, len(want))
	}
}

func (s *subject) compareObject(run *trial, o object) {
	if got := s.modinfo(run.kernel, o.File, "vermagic"); got != o.Vermagic {
		s.differs(run, "%s has vermagic %q, recorded is %q", o.File, got, o.Vermagic)
	}
	if o.SrcVersion != nil {
		if got := s.modinfo(run.kernel, o.File, "srcversion"); got != *o.SrcVersion {
			s.differs(run, "%s has srcversion %q, recorded is %q", o.File, got, *o.SrcVersion)
		}
	}
	if !run.tools {
		s.Logf("kernel %s: digests of %s are not compared: another compiler or other headers", run.kernel, o.File)
		return
	}
	id, sum := digests(s.T, s.root.Path("lib/modules", run.kernel, o.File))
	s.compareDigest(run, o.File+" has build ID", id, o.BuildID, &s.count.ids, &s.count.sameID)
	s.compareDigest(run, o.File+" has SHA-256", sum, o.SHA256, &s.count.sums, &s.count.sameSum)
}

// compareDigest compares a digest if one is recorded, and counts it.
func (s *subject) compareDigest(run *trial, what, got string, want *string, all, same *int) {
	if want == nil {
		return
	}
	s.count.Lock()
	defer s.count.Unlock()
	*all++
	if got == *want {
		*same++
		return
	}
	s.differs(run, "%s %s, recorded is %s", what, got, *want)
}

func (s *subject) wantStatus(want string) {
	s.Helper()
	if got := s.must("status"); got != want {
		s.Errorf("status is\n%swant\n%s", got, want)
	}
}

// wantNothing checks that remove --all left no trace but logs.
func (s *subject) wantNothing() {
	s.wantStatus("")
	if dir := s.root.Path("var/lib/dkms", s.p.Module); exists(dir) {
		s.Errorf("remove left %s", dir)
	}
	for _, run := range s.runs {
		if left := s.installed(run.kernel); len(left) > 0 {
			s.Errorf("remove left for %s: %q", run.kernel, left)
		}
		index, err := os.ReadFile(s.root.Path("lib/modules", run.kernel, "modules.dep"))
		if err == nil && strings.Contains(string(index), "updates/") {
			s.Errorf("modules.dep of %s still has a removed object", run.kernel)
		}
	}
	if _, err := os.Stat(filepath.Join(s.p.Source, "dkms.conf")); err != nil {
		s.Errorf("remove took the source: %v", err)
	}
}

// installed returns, sorted, the objects that a kernel has in this root and
// not in the lab, and checks that none is missing.
func (s *subject) installed(kernel string) []string {
	s.Helper()
	ours := objects(s.T, s.root.Path("usr/lib/modules", kernel))
	original := objects(s.T, filepath.Join(lab.KernelRoot(s), "usr/lib/modules", kernel))
	var added []string
	for file := range ours {
		if !original[file] {
			added = append(added, file)
		}
	}
	for file := range original {
		if !ours[file] {
			s.Errorf("%s of kernel %s is gone", file, kernel)
		}
	}
	slices.Sort(added)
	return added
}

func (s *subject) modinfo(kernel, file, field string) string {
	s.Helper()
	path := s.root.Path("lib/modules", kernel, file)
	return strings.TrimSpace(lab.MustExec(s, "modinfo", "-F", field, path).Stdout)
}

// objects returns all objects below a directory.
func objects(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(d.Name(), ".ko") {
			rel, _ := filepath.Rel(dir, path)
			found[rel] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
