// SPDX-License-Identifier: Apache-2.0

// Package hubcli is the command line of dkms-hub.
package hubcli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"dkms-go/internal/dsse"
	"dkms-go/internal/host"
	"dkms-go/internal/hub/data"
	"dkms-go/internal/hub/vouch"
)

// Stdio is where the program writes, and what it is.
type Stdio struct {
	Out, Err io.Writer
	Version  string
}

// The exit codes, as in --help.
const (
	codeFailed = 1
	codeUsage  = 2
)

const help = `The hub of a fleet: it keeps prebuilt modules and their sources, hears what hosts have, and shows modules and kernels on one page.

All commands but serve work on the data directory, whether the hub runs or not. Exit codes: 0 done, 1 failed, 2 wrong usage.`

// commands are all of the program.
type commands struct {
	Data    string           `help:"The data directory." default:"${data}" env:"DKMS_HUB_DATA" type:"path"`
	Version kong.VersionFlag `help:"Print the version."`

	Serve         serve         `cmd:"" help:"Serve hosts and people."`
	Code          code          `cmd:"" help:"Print a code by which one host can enrol."`
	Hosts         hosts         `cmd:"" help:"List the hosts."`
	Revoke        revoke        `cmd:"" help:"End what a host may do."`
	Contributions contributions `cmd:"" help:"List what hosts have built and offer."`
	Promote       promote       `cmd:"" help:"Vouch for a contribution: sign it, and hand it out."`

	Import importing `cmd:"" help:"Vouch for all bundles below a directory."`

	Audit  audit  `cmd:"" help:"Print who did what, the newest first."`
	Backup backup `cmd:"" help:"Copy the data directory, also while the hub runs."`
	GC     gc     `cmd:"" name:"gc" help:"Remove contents that no repository has any more."`
}

// session is what a command works with.
type session struct {
	ctx  context.Context
	io   Stdio
	data string
}

// open opens the data directory; the caller closes it.
func (s *session) open() (*data.Data, error) { return data.Open(s.ctx, s.data) }

// Main runs a command line and returns the exit code.
func Main(ctx context.Context, args []string, io Stdio) int {
	var c commands
	exit := -1
	parser, err := kong.New(&c, kong.Name("dkms-hub"), kong.Description(help), kong.Writers(io.Out, io.Err),
		kong.Exit(func(code int) { exit = code }), kong.Vars{"version": "dkms-hub-" + io.Version, "data": host.HubData()})
	if err != nil {
		panic(err) // the table of commands is wrong
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	run, err := parser.Parse(args)
	if exit >= 0 {
		return exit
	}
	if err != nil {
		fmt.Fprintf(io.Err, "Error! %v\nSee: dkms-hub --help\n", err)
		return codeUsage
	}
	if err := run.Run(&session{ctx, io, c.Data}); err != nil {
		fmt.Fprintf(io.Err, "Error! %v\n", err)
		return codeFailed
	}
	return 0
}

type code struct {
	Host  string        `arg:"" optional:"" help:"The host that it is for; one that is enrolled gets a new token. Without, any host with a new name."`
	Valid time.Duration `help:"How long it is valid." default:"24h"`
}

func (c code) Run(s *session) error {
	d, err := s.open()
	if err != nil {
		return err
	}
	defer d.Close()
	text, err := d.Ledger.NewCode(s.ctx, c.Host, c.Valid)
	if err != nil {
		return err
	}
	if err := d.Ledger.Audit(s.ctx, "operator", "code", c.Host); err != nil {
		return err
	}
	fmt.Fprintln(s.io.Out, text)
	return nil
}

// HostsDocument is what hosts --json prints; docs/json.md describes it.
type HostsDocument struct {
	Schema string      `json:"schema"`
	Hosts  []HostEntry `json:"hosts"`
}

// HostEntry is one host.
type HostEntry struct {
	Name         string    `json:"name"`
	Distribution string    `json:"distribution,omitempty"`
	Enrolled     time.Time `json:"enrolled"`
	Seen         time.Time `json:"seen,omitzero"`
	Revoked      bool      `json:"revoked,omitempty"`
}

type hosts struct {
	JSON bool `help:"Print JSON."`
}

func (h hosts) Run(s *session) error {
	d, err := s.open()
	if err != nil {
		return err
	}
	defer d.Close()
	all, err := d.Ledger.Hosts(s.ctx)
	if err != nil {
		return err
	}
	if h.JSON {
		doc := HostsDocument{Schema: "dkms-hosts/1", Hosts: []HostEntry{}}
		for _, h := range all {
			doc.Hosts = append(doc.Hosts, HostEntry{h.Name, h.Distribution, h.Enrolled.UTC(), h.Seen.UTC(), h.Revoked})
		}
		return printJSON(s.io.Out, doc)
	}
	for _, h := range all {
		seen := "never reported"
		if !h.Seen.IsZero() {
			seen = "reported " + h.Seen.UTC().Format(time.RFC3339)
		}
		if h.Revoked {
			seen += ", revoked"
		}
		fmt.Fprintf(s.io.Out, "%s: %s\n", h.Name, strings.TrimSpace(seen))
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

type revoke struct {
	Host string `arg:"" help:"The host."`
}

func (r revoke) Run(s *session) error {
	d, err := s.open()
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Ledger.Revoke(s.ctx, "operator", r.Host)
}

// ContributionsDocument is what contributions --json prints; docs/json.md describes it.
type ContributionsDocument struct {
	Schema        string              `json:"schema"`
	Contributions []ContributionEntry `json:"contributions"`
}

// ContributionEntry is one bundle.
type ContributionEntry struct {
	Digest  string `json:"digest"`
	Key     string `json:"key"`
	Module  string `json:"module"`
	Version string `json:"version"`
	Kernel  string `json:"kernel"`
	Arch    string `json:"arch"`
}

type contributions struct {
	JSON bool `help:"Print JSON."`
}

func (c contributions) Run(s *session) error {
	d, err := s.open()
	if err != nil {
		return err
	}
	defer d.Close()
	list, err := d.Contributions(s.ctx)
	if err != nil {
		return err
	}
	doc := ContributionsDocument{Schema: "dkms-contributions/1", Contributions: []ContributionEntry{}}
	for _, b := range list {
		m := b.Manifest
		doc.Contributions = append(doc.Contributions, ContributionEntry{string(b.Digest), b.Key, m.Module, m.Version, m.Kernel.Release, m.Kernel.Arch})
	}
	if c.JSON {
		return printJSON(s.io.Out, doc)
	}
	for _, e := range doc.Contributions {
		fmt.Fprintf(s.io.Out, "%s/%s, %s, %s: %s\n", e.Module, e.Version, e.Kernel, e.Arch, e.Digest)
	}
	return nil
}

type promote struct {
	Which string `arg:"" help:"The digest that contributions prints, or a tag."`
}

func (p promote) Run(s *session) error {
	d, err := s.open()
	if err != nil {
		return err
	}
	defer d.Close()
	c, err := d.Promote(s.ctx, "operator", p.Which)
	if err == nil {
		fmt.Fprintf(s.io.Out, "The hub vouches for %s; hosts find it by %s.\n", c.Manifest.StateKey(), c.Key)
	}
	return err
}

type importing struct {
	Dir   string   `arg:"" help:"The directory; names and depth don't matter." type:"existingdir"`
	Trust []string `required:"" help:"The public key that they are signed by; may be repeated." type:"existingfile" placeholder:"FILE"`
}

func (i importing) Run(s *session) error {
	var keys []dsse.Key
	for _, file := range i.Trust {
		key, err := dsse.LoadPublic(file)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	d, err := s.open()
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Import(s.ctx, i.Dir, keys, func(file string, c vouch.Contribution, err error) {
		if err != nil {
			fmt.Fprintf(s.io.Err, "Not taken: %v\n", err)
			return
		}
		fmt.Fprintf(s.io.Out, "%s: %s, found by %s\n", file, c.Manifest.StateKey(), c.Key)
	})
}

// AuditDocument is what audit --json prints; docs/json.md describes it.
type AuditDocument struct {
	Schema  string       `json:"schema"`
	Entries []AuditEntry `json:"entries"`
}

// AuditEntry is one entry of the audit log.
type AuditEntry struct {
	ID     int64     `json:"id"`
	Time   time.Time `json:"time"`
	Who    string    `json:"who"`
	What   string    `json:"what"`
	Detail string    `json:"detail,omitempty"`
}

type audit struct {
	N    int  `short:"n" help:"How many entries." default:"100"`
	JSON bool `help:"Print JSON."`
}

func (a audit) Run(s *session) error {
	d, err := s.open()
	if err != nil {
		return err
	}
	defer d.Close()
	log, err := d.Ledger.AuditLog(s.ctx, 0, a.N)
	if err != nil {
		return err
	}
	if a.JSON {
		doc := AuditDocument{Schema: "dkms-audit/1", Entries: []AuditEntry{}}
		for _, e := range log {
			doc.Entries = append(doc.Entries, AuditEntry{e.ID, e.Time.UTC(), e.Who, e.What, e.Detail})
		}
		return printJSON(s.io.Out, doc)
	}
	for _, e := range log {
		fmt.Fprintf(s.io.Out, "%s %s %s %s\n", e.Time.UTC().Format(time.RFC3339), e.Who, e.What, e.Detail)
	}
	return nil
}

type backup struct {
	To string `arg:"" help:"A directory that isn't there, which becomes the copy. A hub can serve it as its data directory." type:"path"`
}

func (b backup) Run(s *session) error {
	d, err := s.open()
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Backup(s.ctx, b.To)
}

type gc struct {
	Age time.Duration `help:"Leave what is younger: it may be on its way into a repository." default:"24h"`
}

func (g gc) Run(s *session) error {
	d, err := s.open()
	if err != nil {
		return err
	}
	defer d.Close()
	freed, err := d.Store.Collect(s.ctx, g.Age)
	if err == nil {
		fmt.Fprintf(s.io.Out, "%d bytes are free again\n", freed)
	}
	return err
}

type serve struct {
	Listen string   `help:"The address to listen at." default:":8443"`
	Name   []string `help:"A name or address of the hub, for its certificate. By default the host's name and localhost."`
	Cert   string   `help:"A certificate, with its chain, in the place of one by the hub's own authority." type:"existingfile" placeholder:"FILE"`
	Key    string   `help:"The key of that." type:"existingfile" placeholder:"FILE"`
}

// Validate is called by kong.
func (v *serve) Validate() error {
	if (v.Cert == "") != (v.Key == "") {
		return errors.New("--cert and --key go together")
	}
	return nil
}

// names are those for the certificate.
func (v *serve) names() []string {
	if len(v.Name) > 0 {
		return v.Name
	}
	name, _ := os.Hostname()
	return append(strings.Fields(name), "localhost", "127.0.0.1", "::1")
}

func (v *serve) Run(s *session) error {
	d, err := s.open()
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Serve(s.ctx, data.Service{Listen: v.Listen, Names: v.names(), Cert: v.Cert, Key: v.Key, Log: s.io.Err,
		Ready: func(address string) {
			fmt.Fprintf(s.io.Out, "Serving at https://%s; hosts pin %s; the operator's token is in %s\n", address, d.CertFile(), filepath.Join(s.data, data.OperatorFile))
		}})
}
