// SPDX-License-Identifier: Apache-2.0

// Package fleet has what hosts and their hub tell each other: values, and what makes
// them valid. docs/hub.md describes the interface.
package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ReportSchema is the version of a Report. A version gets new members only.
const ReportSchema = "dkms-report/1"

// MaxReport bounds a report in bytes: a host with 200 kernels and modules sends 60 KB.
const MaxReport = 1 << 20

// Report is what a host has, and what it lacks.
type Report struct {
	Schema string `json:"schema"`
	// Time is when the host looked.
	Time time.Time `json:"time"`
	// Distribution is ID and VERSION_ID of os-release(5), with a blank between.
	Distribution string   `json:"distribution"`
	Kernels      []Kernel `json:"kernels"`
	Modules      []Module `json:"modules"`
}

// Kernel is one that a host has.
type Kernel struct {
	Release string `json:"release"`
	Arch    string `json:"arch"`
	// Identity tells two builds of one release apart.
	Identity string `json:"identity"`
	Running  bool   `json:"running,omitempty"`
	NextBoot bool   `json:"next_boot,omitempty"`
	// Buildable says that headers and compiler are there.
	Buildable bool `json:"buildable,omitempty"`
}

// Module is one module for one of the kernels.
type Module struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Kernel  string `json:"kernel"`
	Arch    string `json:"arch"`
	State   State  `json:"state"`
	// Origin is where an installed result came from: local, cache or prebuilt.
	Origin string `json:"origin,omitempty"`
	// Reason says why it isn't ready, in one line.
	Reason string `json:"reason,omitempty"`
	// Key is what the host looks a prebuilt up by.
	Key string `json:"key,omitempty"`
}

// State is how far a module is for a kernel.
type State string

// The states of a module on a host.
const (
	Ready    State = "ready"    // installed, and would load
	Waiting  State = "waiting"  // wanted, and not there
	Failed   State = "failed"   // its build failed
	Excluded State = "excluded" // the module says that it isn't for this kernel
)

// maxName bounds a name in bytes.
const maxName = 200

// CheckName returns what is wrong with the name of a module, version, kernel,
// architecture or host, without that name: it must fit into a path, a tag and a page.
func CheckName(name string) error {
	ok := name != "" && len(name) <= maxName && name[0] != '-' && name[0] != '.'
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._+~:@-", c) >= 0)
	}
	if !ok {
		return errors.New("is empty, too long, or has other characters than letters, digits and . _ + ~ : @ -")
	}
	return nil
}

// IsDigest tells whether text is a SHA-256 in hex.
func IsDigest(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == sha256.Size && strings.ToLower(text) == text
}

// ReadReport reads a report, and checks all that is in it.
func ReadReport(data []byte) (Report, error) {
	var r Report
	if len(data) > MaxReport {
		return r, fmt.Errorf("the report has more than %d bytes", MaxReport)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("reading the report: %w", err)
	}
	if r.Schema != ReportSchema {
		return r, fmt.Errorf("the report is a %q, not a %s", r.Schema, ReportSchema)
	}
	known := map[[2]string]bool{}
	for _, k := range r.Kernels {
		if err := k.check(); err != nil {
			return r, err
		}
		known[[2]string{k.Release, k.Arch}] = true
	}
	for _, m := range r.Modules {
		if err := m.check(); err != nil {
			return r, err
		}
		if !known[[2]string{m.Kernel, m.Arch}] {
			return r, fmt.Errorf("module %s/%s is for the kernel %s (%s), which the report doesn't have", m.Name, m.Version, m.Kernel, m.Arch)
		}
	}
	return r, nil
}

func (k Kernel) check() error {
	for what, name := range map[string]string{"release": k.Release, "arch": k.Arch} {
		if err := CheckName(name); err != nil {
			return fmt.Errorf("the %s %.80q of a kernel %w", what, name, err)
		}
	}
	if k.Identity != "" && !IsDigest(k.Identity) {
		return fmt.Errorf("the identity %.80q of the kernel %s is no SHA-256", k.Identity, k.Release)
	}
	return nil
}

func (m Module) check() error {
	for what, name := range map[string]string{"name": m.Name, "version": m.Version, "kernel": m.Kernel, "arch": m.Arch} {
		if err := CheckName(name); err != nil {
			return fmt.Errorf("the %s %.80q of a module %w", what, name, err)
		}
	}
	switch m.State {
	case Ready, Waiting, Failed, Excluded:
	default:
		return fmt.Errorf("the state %.80q of the module %s/%s is none", m.State, m.Name, m.Version)
	}
	if m.Key != "" && !IsDigest(m.Key) {
		return fmt.Errorf("the key %.80q of the module %s/%s is no SHA-256", m.Key, m.Name, m.Version)
	}
	if len(m.Reason) > 1000 || len(m.Origin) > 200 {
		return fmt.Errorf("the reason or the origin of the module %s/%s is too long", m.Name, m.Version)
	}
	return nil
}

// Enrolment is what a host sends to get its token.
type Enrolment struct {
	Code string `json:"code"`
	// Name is that of the host, by which people know it.
	Name string `json:"name"`
}

// Enrolled is the answer.
type Enrolled struct {
	Token string `json:"token"`
}
