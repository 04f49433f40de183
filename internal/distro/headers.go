// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"context"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"dkms-go/internal/host"
	"dkms-go/internal/run"
)

// lookupTime bounds the search for a package.
const lookupTime = 30 * time.Second

// Query is a search for the package that brings the headers of a kernel.
type Query struct {
	Release string
	Paths   host.Paths
	// Env is the environment of the package manager.
	Env []string
}

// releasePattern matches releases that may be put into the patterns of a
// package manager.
var releasePattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9][A-Za-z0-9._+~-]*$`)
})

// LookupHeaders asks the package manager for the package that brings the
// headers of a kernel, as InstallCommand takes it. It is known only if a
// configured source has it for just that kernel, as far as the machine knows:
// nothing is downloaded or changed, and it takes half a minute at most.
func (d Distro) LookupHeaders(ctx context.Context, q Query) (pkg string, known bool) {
	lookup := d.family().headers
	if lookup == nil || !releasePattern().MatchString(q.Release) {
		return "", false
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	pkg = lookup(q, ctx)
	return pkg, pkg != ""
}

// ask returns the lines that a command prints, without blanks around them. A
// command that isn't there, or finds nothing, prints none.
func (q Query) ask(ctx context.Context, argv ...string) []string {
	env := append(q.Env[:len(q.Env):len(q.Env)], "LC_ALL=C")
	out, _ := run.Cmd{Argv: argv, Env: env}.Output(ctx)
	var lines []string
	for line := range strings.Lines(string(out)) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

// debian asks apt for packages that are named after the kernel, Debian's and
// Proxmox's, then for that which belongs to the package of the kernel's image.
func (q Query) debian(ctx context.Context) string {
	var names []string
	for _, prefix := range []string{"linux", "proxmox", "pve"} {
		names = append(names, prefix+"-headers-"+q.Release)
	}
	candidates := q.policy(ctx, names)
	for _, name := range names {
		if candidates[name] != "" {
			return name
		}
	}
	return q.besideImage(ctx)
}

// besideImage returns the headers' package that is called as that of the
// kernel's image and has its version: "linux-image-current-x" and
// "linux-headers-current-x" (Armbian), "raspberrypi-kernel" and
// "raspberrypi-kernel-headers".
func (q Query) besideImage(ctx context.Context) string {
	modules := filepath.Join(q.Paths.KernelTree(q.Release), "kernel")
	owned := q.ask(ctx, "dpkg-query", "-S", filepath.Join(q.Paths.Boot, "vmlinuz-"+q.Release), modules, "/usr"+modules)
	for _, line := range owned {
		owner, _, ok := strings.Cut(line, ": ")
		owner, _, _ = strings.Cut(owner, ":") // of an architecture
		if !ok || strings.ContainsAny(owner, " ,") {
			continue // several owners, or a diversion
		}
		name := owner + "-headers"
		if rest, ok := strings.CutPrefix(owner, "linux-image-"); ok {
			name = "linux-headers-" + rest
		}
		version := q.ask(ctx, "dpkg-query", "-W", "-f", "${Version}\n", owner)
		if len(version) == 1 && version[0] != "" && q.policy(ctx, []string{name})[name] == version[0] {
			return name
		}
	}
	return ""
}

// priority matches the number that apt gives a version and a source.
var priority = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^-?[0-9]+$`)
})

// policy returns the candidate versions of those packages that a source has;
// apt also knows packages that only were, or are, installed.
func (q Query) policy(ctx context.Context, names []string) map[string]string {
	return parsePolicy(q.ask(ctx, append([]string{"apt-cache", "policy", "--"}, names...)...))
}

func parsePolicy(lines []string) map[string]string {
	found := map[string]string{}
	var name, candidate, version string
	for _, line := range lines {
		words := strings.Fields(strings.TrimPrefix(line, "*** "))
		switch {
		case len(words) == 1 && strings.HasSuffix(line, ":"):
			name, candidate, version = strings.TrimSuffix(line, ":"), "", ""
		case len(words) == 2 && words[0] == "Candidate:":
			candidate = words[1]
		case len(words) >= 2 && priority().MatchString(words[1]):
			version = words[0]
		case len(words) > 2 && priority().MatchString(words[0]) && version != "" && version == candidate:
			found[name] = candidate // "500 https://... Packages", not dpkg's own list
		}
	}
	return found
}

// fedora asks for what kernel-devel packages of all variants provide; Oracle's
// are found by their name.
func (q Query) fedora(ctx context.Context) string {
	for _, what := range [][]string{{"--whatprovides", "kernel-devel-uname-r = " + q.Release}, {"kernel-uek-devel-" + q.Release}} {
		for _, line := range q.ask(ctx, append([]string{"dnf", "-q", "-C", "repoquery"}, what...)...) {
			// A NEVRA: kernel-devel-0:6.11.4-301.fc41.x86_64.
			if strings.HasPrefix(line, "kernel-") && strings.Contains(line, "-devel-") && !strings.Contains(line, " ") {
				return strings.Replace(line, "-0:", "-", 1)
			}
		}
	}
	return ""
}

// suse looks through the versions of the flavour's package. A package's
// version is the kernel's, and perhaps the number of a rebuild behind it.
func (q Query) suse(ctx context.Context) string {
	i := strings.LastIndexByte(q.Release, '-')
	if i < 0 {
		return ""
	}
	version, name := q.Release[:i], "kernel-"+q.Release[i+1:]+"-devel"
	for _, line := range q.ask(ctx, "zypper", "--no-refresh", "--non-interactive", "search", "--details", "--match-exact", name) {
		// S | Name | Type | Version | Arch | Repository
		row := strings.Split(line, "|")
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
		if len(row) == 6 && row[1] == name && row[2] == "package" && row[5] != "(System Packages)" &&
			(row[3] == version || strings.HasPrefix(row[3], version+".")) {
			return name + "=" + row[3]
		}
	}
	return ""
}

// arch takes the name from the file that each kernel package has beside its
// objects. The repositories have one version of a package only.
func (q Query) arch(ctx context.Context) string {
	base := readLine(filepath.Join(q.Paths.KernelTree(q.Release), "pkgbase"))
	if base == "" || strings.HasPrefix(base, "-") {
		return ""
	}
	name := base + "-headers"
	release := strings.ReplaceAll(q.Release, "-", ".") + "."
	for _, line := range q.ask(ctx, "pacman", "-Si", name) {
		key, version, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) != "Version" {
			continue
		}
		version = strings.ReplaceAll(strings.TrimSpace(version), "-", ".") + "."
		// The kernel calls itself 6.12.0 in the package 6.12.
		if strings.HasPrefix(release, version) || strings.HasPrefix(strings.Replace(release, ".0.", ".", 1), version) {
			return name
		}
	}
	return ""
}

// alpineRelease matches "6.6.58-0-lts": version, number of the package, flavour.
var alpineRelease = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([0-9.]+(?:_[a-z0-9]+)?)-([0-9]+)-([a-z0-9-]+)$`)
})

func (q Query) alpine(ctx context.Context) string {
	m := alpineRelease().FindStringSubmatch(q.Release)
	if m == nil {
		return ""
	}
	name := "linux-" + m[3] + "-dev"
	for _, line := range q.ask(ctx, "apk", "--no-network", "search", "--exact", name) {
		if line == name+"-"+m[1]+"-r"+m[2] {
			return name
		}
	}
	return ""
}

// gentooRelease matches "6.6.52-gentoo-r1" and, of a kernel that was built by
// its package, "6.6.52-gentoo-dist".
var gentooRelease = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([0-9.]+)-gentoo(-r[0-9]+)?(-dist)?$`)
})

func (q Query) gentoo(ctx context.Context) string {
	m := gentooRelease().FindStringSubmatch(q.Release)
	if m == nil {
		return ""
	}
	name := "sys-kernel/gentoo-sources-" + m[1] + m[2]
	if m[3] != "" {
		name = "sys-kernel/gentoo-kernel-" + m[1] + m[2]
	}
	for _, line := range q.ask(ctx, "portageq", "best_visible", "/", "="+name) {
		if line == name {
			return "=" + name
		}
	}
	return ""
}

// void takes the series, the first two numbers of a release like "6.6.52_1".
func (q Query) void(ctx context.Context) string {
	parts := strings.SplitN(q.Release, ".", 3)
	if len(parts) < 3 {
		return ""
	}
	name := "linux" + parts[0] + "." + parts[1] + "-headers"
	for _, line := range q.ask(ctx, "xbps-query", "-R", "--property", "pkgver", name) {
		if line == name+"-"+q.Release {
			return name
		}
	}
	return ""
}
