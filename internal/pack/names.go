// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"dkms-go/internal/state"
)

// PackageName returns what a module's name becomes in a package's: Debian's have
// neither capitals nor underscores (Debian policy 5.6.1), rpm's may.
func PackageName(f Format, module string) string {
	if f == RPM {
		return module
	}
	return strings.ReplaceAll(strings.ToLower(module), "_", "-")
}

var expressions = sync.OnceValue(func() map[string]*regexp.Regexp {
	return map[string]*regexp.Regexp{
		"deb name": regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`),
		"rpm name": regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`),
		// Policy 5.6.12: no epoch here, a revision behind the last hyphen.
		"deb version": regexp.MustCompile(`^[0-9][A-Za-z0-9.+~]*(-[A-Za-z0-9.+~]+)*$`),
		// rpm-version(7) and what rpmbuild lets pass.
		"rpm version": regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~^]*$`),
		// Policy 7.1, with alternatives.
		"deb relation": regexp.MustCompile(`^` + debRelation + `( \| ` + debRelation + `)*$`),
		"rpm relation": regexp.MustCompile(`^[A-Za-z0-9/][^\s<>=]*( (<=|>=|<|>|=) [^\s<>=]+)?$`),
		"module":       regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~^:@=,%-]*$`),
	}
})

const debRelation = `[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?( \((<<|<=|=|>=|>>) [A-Za-z0-9.+~:-]+\))?`

// CheckModule reports why a module can't be packaged under its name: both parts become
// names of directories and words of scripts.
func CheckModule(id state.ID) error {
	for _, part := range []struct{ what, value string }{{"PACKAGE_NAME", id.Module}, {"PACKAGE_VERSION", id.Version}} {
		if !expressions()["module"].MatchString(part.value) {
			return fmt.Errorf("%s is %q; a package needs one of letters, digits and . _ + ~ - that begins with a letter or digit", part.what, part.value)
		}
	}
	return nil
}

// checkName reports why a package can't have its name.
func (p *Package) checkName() error {
	if expressions()[string(p.Format)+" name"].MatchString(p.Name) {
		return nil
	}
	if p.Format == RPM {
		return fmt.Errorf("%q is no name of an rpm package: it has letters, digits and . _ + -", p.Name)
	}
	return fmt.Errorf("%q is no name of a Debian package: it has small letters, digits and + - .", p.Name)
}

// CheckVersion reports why a format takes no such version. The error says what to use
// in its place.
func CheckVersion(f Format, version string) error {
	if expressions()[string(f)+" version"].MatchString(version) {
		return nil
	}
	rule := "it begins with a digit, and has letters, digits and . + ~ -"
	name := "Debian package"
	if f == RPM {
		rule, name = "it has letters, digits and . _ + ~ ^", "rpm package"
	}
	return &BadVersion{text: fmt.Sprintf("%q is no version of a %s: %s", version, name, rule), Instead: suggest(f, version)}
}

// BadVersion is the error of a version that a format doesn't take.
type BadVersion struct {
	text string
	// Instead is a version like it that the format takes, or "".
	Instead string
}

func (e *BadVersion) Error() string { return e.text }

// suggest returns a version like the given one: a hyphen becomes a ~ before words that
// mean less than the release, else a +.
func suggest(f Format, version string) string {
	early := regexp.MustCompile(`[-_](dev|rc|beta|alpha|pre)`)
	v := early.ReplaceAllString(strings.TrimLeft(version, "vV"), "~$1")
	v = strings.Map(func(r rune) rune {
		switch {
		case r == '_' && f == Deb:
			return '.'
		case r == '-' && f == RPM, strings.ContainsRune(":@=,%/ ", r):
			return '+'
		case r == '^' && f == Deb:
			return '+'
		}
		return r
	}, v)
	if !expressions()[string(f)+" version"].MatchString(v) {
		return ""
	}
	return v
}

// checkRelation reports why a format takes no such relation to another package.
func checkRelation(f Format, relation string) error {
	if expressions()[string(f)+" relation"].MatchString(relation) {
		return nil
	}
	if f == RPM {
		return fmt.Errorf("%q is no dependency of an rpm package: it has a name, or a name, one of < <= = >= >, and a version", relation)
	}
	return fmt.Errorf("%q is no dependency of a Debian package: it has a name, or a name and a version such as (>= 1.0), and | between alternatives", relation)
}

// Relations splits a list of dependencies: commas are between them.
func Relations(list string) []string {
	var all []string
	for part := range strings.SplitSeq(list, ",") {
		if words := strings.Join(strings.Fields(part), " "); words != "" {
			all = append(all, words)
		}
	}
	return all
}
