// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// documented is the kernel that the documentation writes of.
const documented = "6.12.117+deb12-amd64"

// authorPage has the source of hello/1.0, which all other pages work with.
const authorPage = "docs/guides/module-author.md"

// imagePage works with an image at /mnt/image.
const imagePage = "docs/guides/image-builder.md"

// before is what a page takes for granted, in commands.
var before = map[string][]string{
	"docs/migration.md":       {"dkms install hello/1.0"},
	"docs/troubleshooting.md": {"dkms install hello/1.0", "dkms key generate"},
	"docs/guides/sysadmin.md": {"dkms key generate"},
}

// stand are programs that take the place of those that would need a machine.
var stand = map[string]string{
	"sudo":   `exec "$@"`,
	"reboot": `echo reboot`,
	// The machine of the documentation runs the newer kernel; the one that runs here
	// isn't installed in the root.
	"dkms": `case " $* " in
*" -k "*|*" --all "*|*" --root "*|*" --help "*) ;;
*" ready "*) set -- "$@" --templatekernel NEWER ;;
*" build "*|*" install "*|*" uninstall "*|*" unbuild "*|*" config "*|*" autoinstall "*|*" key status "*) set -- "$@" -k NEWER ;;
esac
exec /usr/sbin/dkms "$@"`,
}

// world has the root that each page begins with.
type world struct {
	t            *testing.T
	newer, older string
	base         *lab.Root
}

// TestPages runs the commands of the pages in their order, each page in a root of its
// own, which has one kernel, hello/1.0 in /usr/src, and its build in the cache.
func TestPages(t *testing.T) {
	older, newer := lab.Kernels(t)
	w := &world{t: t, newer: newer, older: older, base: lab.Scratch(t)}
	w.prepare()
	for _, page := range pages(t) {
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) { w.page(t, page) })
	}
}

// pages are those whose commands are run.
func pages(t *testing.T) []string {
	t.Helper()
	list := []string{"README.md", "docs/migration.md", "docs/troubleshooting.md"}
	guides, err := filepath.Glob(filepath.Join(lab.Repo(t), "docs", "guides", "*.md"))
	if err != nil || len(guides) == 0 {
		t.Fatal("no guides", err)
	}
	for _, guide := range guides {
		list = append(list, "docs/guides/"+filepath.Base(guide))
	}
	return list
}

// prepare makes the root: one kernel with few objects, whose index then takes no time,
// dkms as the package has it, hello/1.0, and the result of its build.
func (w *world) prepare() {
	w.t.Helper()
	modules := w.base.Path("usr/lib/modules")
	lab.MustExec(w.t, "rm", "-r", filepath.Join(modules, w.older))
	for _, part := range []string{"arch", "crypto", "drivers", "fs", "net", "sound"} {
		lab.MustExec(w.t, "rm", "-r", filepath.Join(modules, w.newer, "kernel", part))
	}
	w.base.MustRun("depmod", w.newer)
	lab.MustExec(w.t, filepath.Join(lab.Repo(w.t), "packaging", "install.sh"), "deb", w.base.Dir)
	w.base.AddBinary()
	for name, text := range stand {
		w.write(w.base, "/usr/lib/stand/"+name, "#!/bin/sh\n"+strings.ReplaceAll(text, "NEWER", w.newer)+"\n", 0o755)
	}
	for _, b := range Blocks(w.t, authorPage) {
		if path, text := b.File(); strings.HasPrefix(path, "hello/") {
			w.write(w.base, strings.Replace(path, "hello/", "/usr/src/hello-1.0/", 1), text, 0o644)
		}
	}
	for _, command := range []string{"dkms build hello/1.0", "dkms remove hello/1.0 --all"} {
		w.run(w.t, w.base, Line{Text: command, At: authorPage})
	}
	w.base.Freeze()
}

// write puts a file into a root; a relative path is below the working directory.
func (w *world) write(r *lab.Root, path, text string, mode os.FileMode) {
	w.t.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join("/root", path)
	}
	path = r.Path(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		w.t.Fatal(err)
	}
}

// page runs a page, without the commands that are run elsewhere.
func (w *world) page(t *testing.T, page string) {
	r := lab.AptRootOver(t, w.base)
	if page == imagePage {
		w.mount(t, r)
	}
	for _, command := range before[page] {
		w.run(t, r, Line{Text: command, At: page})
	}
	for _, b := range Blocks(t, page) {
		if path, text := b.File(); path != "" {
			w.write(r, path, text, 0o644)
			continue
		}
		for _, l := range b.Lines {
			if b.Info != "text" && l.Command() != "" && elsewhere[l.Command()] == "" {
				w.run(t, r, l)
			}
		}
	}
}

// mount puts another such root, an image, into a root.
func (w *world) mount(t *testing.T, r *lab.Root) {
	t.Helper()
	image := lab.AptRootOver(t, w.base)
	at := r.Path("mnt/image")
	lab.MustExec(t, "mkdir", "-p", at)
	lab.MustExec(t, "mount", "--rbind", "--make-rslave", image.Dir, at)
	t.Cleanup(func() { lab.MustExec(t, "umount", "-R", at) })
}

// run runs a command, in bash and in /root.
func (w *world) run(t *testing.T, r *lab.Root, l Line) {
	t.Helper()
	command := strings.ReplaceAll(l.Command(), documented, w.newer)
	res := r.Run("env", "PATH=/usr/lib/stand:/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-c", "cd /root; "+command)
	said := fmt.Sprintf("%s\n%s%s", command, res.Stdout, res.Stderr)
	if res.Code != l.Exit() {
		t.Errorf("%s: exit code %d, want %d: %s", l.At, res.Code, l.Exit(), said)
		return
	}
	t.Logf("%s: %s", l.At, said)
}
