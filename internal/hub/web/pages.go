// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bytes"
	"cmp"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"time"

	"dkms-go/internal/fleet"
	"dkms-go/internal/hub/ledger"
	"dkms-go/internal/vercmp"
)

//go:embed pages
var files embed.FS

// pages adds those for people, who are operators.
func (s *Server) pages(mux *http.ServeMux) {
	all := template.Must(template.New("").Funcs(template.FuncMap{"ago": ago, "short": short, "count": count}).ParseFS(files, "pages/*.html"))
	show := func(pattern, name string, values func(*http.Request) (any, error)) {
		mux.Handle("GET "+pattern, s.known(func(w http.ResponseWriter, r *http.Request, who caller) {
			if !who.operator {
				s.fail(w, r, refuse(http.StatusForbidden, "the pages are for operators"))
				return
			}
			v, err := values(r)
			var text bytes.Buffer
			if err == nil {
				err = all.ExecuteTemplate(&text, name, v)
			}
			if err != nil {
				s.fail(w, r, err)
				return
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
			w.Write(text.Bytes())
		}))
	}
	for _, name := range []string{"style.css", "live.js"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "pages/"+name) })
	}
	show("/{$}", "matrix.html", s.matrix)
	show("/modules/{name}", "wants.html", s.one("module", func(w ledger.Want) string { return w.Module }))
	show("/kernels/{name}", "wants.html", s.one("kernel", func(w ledger.Want) string { return w.Kernel }))
	show("/hosts", "hosts.html", s.hosts)
	show("/hosts/{name}", "host.html", s.host)
	show("/audit", "audit.html", s.audit)
}

// column is one kernel build of the matrix.
type column struct{ Release, Arch, Identity string }

// cell is one module for one kernel build.
type cell struct {
	State string // "" where no host has asked
	Hosts int    // in that state
	Ready int
	Title string
}

type row struct {
	Module, Version string
	Cells           []cell
}

type matrixPage struct {
	Columns []column
	Rows    []row
	Hosts   int
	Waiting int // hosts' modules that aren't ready
}

// matrix shows modules and kernels.
func (s *Server) matrix(r *http.Request) (any, error) {
	wants, err := s.Ledger.Wants(r.Context())
	if err != nil {
		return nil, err
	}
	hosts, err := s.Ledger.Hosts(r.Context())
	if err != nil {
		return nil, err
	}
	page := matrixOf(wants)
	for _, h := range hosts {
		if !h.Revoked {
			page.Hosts++
		}
	}
	return page, nil
}

func matrixOf(wants []ledger.Want) matrixPage {
	var page matrixPage
	at := map[[2]string]map[column]cell{}
	for _, w := range wants {
		c := column{w.Kernel, w.Arch, w.Identity}
		if !slices.Contains(page.Columns, c) {
			page.Columns = append(page.Columns, c)
		}
		key := [2]string{w.Module, w.Version}
		if at[key] == nil {
			at[key] = map[column]cell{}
			page.Rows = append(page.Rows, row{Module: w.Module, Version: w.Version})
		}
		at[key][c] = cellOf(w)
		page.Waiting += w.Hosts[fleet.Waiting] + w.Hosts[fleet.Failed]
	}
	slices.SortFunc(page.Columns, func(a, b column) int {
		return cmp.Or(vercmp.Natural(b.Release, a.Release), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Identity, b.Identity))
	})
	for i, r := range page.Rows {
		for _, c := range page.Columns {
			page.Rows[i].Cells = append(page.Rows[i].Cells, at[[2]string{r.Module, r.Version}][c])
		}
	}
	return page
}

// cellOf shows the worst that hosts report.
func cellOf(w ledger.Want) cell {
	c := cell{Ready: w.Hosts[fleet.Ready], Title: w.Reason}
	for _, state := range []fleet.State{fleet.Failed, fleet.Waiting, fleet.Ready, fleet.Excluded} {
		if n := w.Hosts[state]; n > 0 {
			c.State, c.Hosts = string(state), n
			break
		}
	}
	return c
}

// wantsPage is about one module, or one kernel.
type wantsPage struct {
	Title string
	Wants []ledger.Want
}

// one shows what hosts report of all that has the name in the path.
func (s *Server) one(what string, name func(ledger.Want) string) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		page := wantsPage{Title: r.PathValue("name")}
		wants, err := s.Ledger.Wants(r.Context())
		if err != nil {
			return nil, err
		}
		for _, w := range wants {
			if name(w) == page.Title {
				page.Wants = append(page.Wants, w)
			}
		}
		if len(page.Wants) == 0 {
			return nil, refuse(http.StatusNotFound, "no host reports the %s %.80q", what, page.Title)
		}
		slices.SortStableFunc(page.Wants, func(a, b ledger.Want) int { return vercmp.Natural(b.Kernel, a.Kernel) })
		return page, nil
	}
}

type hostRow struct {
	ledger.Host
	Problem string // why it isn't ready, "" if it is
}

// hosts lists all, those that aren't ready first.
func (s *Server) hosts(r *http.Request) (any, error) {
	all, err := s.Ledger.Hosts(r.Context())
	if err != nil {
		return nil, err
	}
	rows := make([]hostRow, 0, len(all))
	for _, h := range all {
		_, last, err := s.Ledger.Last(r.Context(), h.Name)
		if err != nil {
			return nil, err
		}
		rows = append(rows, hostRow{h, problem(h, last)})
	}
	slices.SortStableFunc(rows, func(a, b hostRow) int {
		switch {
		case a.Problem != "" && b.Problem == "":
			return -1
		case a.Problem == "" && b.Problem != "":
			return 1
		}
		return 0
	})
	return rows, nil
}

// problem says in one line why a host isn't ready for its running and its next kernel.
func problem(h ledger.Host, last fleet.Report) string {
	if h.Revoked {
		return "revoked"
	}
	if h.Seen.IsZero() {
		return "has never reported"
	}
	matters := map[[2]string]bool{}
	for _, k := range last.Kernels {
		matters[[2]string{k.Release, k.Arch}] = k.Running || k.NextBoot
	}
	for _, m := range last.Modules {
		if matters[[2]string{m.Kernel, m.Arch}] && (m.State == fleet.Failed || m.State == fleet.Waiting) {
			return fmt.Sprintf("%s/%s is %s for %s: %s", m.Name, m.Version, m.State, m.Kernel, cmp.Or(m.Reason, "no reason given"))
		}
	}
	return ""
}

// host shows one.
func (s *Server) host(r *http.Request) (any, error) {
	h, last, err := s.Ledger.Last(r.Context(), r.PathValue("name"))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, refuse(http.StatusNotFound, "no host %.80q is enrolled", r.PathValue("name"))
	}
	return struct {
		Host   ledger.Host
		Report fleet.Report
	}{h, last}, err
}

// audit shows who did what.
func (s *Server) audit(r *http.Request) (any, error) {
	const entries = 200
	return s.Ledger.AuditLog(r.Context(), 0, entries)
}

// ago says how long ago something was, in one unit.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		if n := int(time.Since(t) / unit.size); n == 1 {
			return "1 " + unit.name + " ago"
		} else if n > 1 {
			return fmt.Sprintf("%d %ss ago", n, unit.name)
		}
	}
	return "just now"
}

// pair is how many hosts are in a state.
type pair struct {
	Name  fleet.State
	Value int
}

func count(w ledger.Want, state fleet.State) pair { return pair{state, w.Hosts[state]} }

// short is the beginning of a digest.
func short(digest string) string { return digest[:min(8, len(digest))] }
