// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"dkms-go/internal/fleet"
)

func opened(t *testing.T, file string) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func enrolled(t *testing.T, l *Ledger, name string) Host {
	t.Helper()
	code, err := l.NewCode(t.Context(), "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	token, err := l.Enrol(t.Context(), code, name)
	if err != nil {
		t.Fatal(err)
	}
	h, err := l.Authenticate(t.Context(), token)
	if err != nil || h.Name != name {
		t.Fatalf("host %+v, %v", h, err)
	}
	return h
}

func TestEnrol(t *testing.T) {
	l := opened(t, filepath.Join(t.TempDir(), "a name?with#signs%.db"))
	ctx := t.Context()
	code, err := l.NewCode(ctx, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	token, err := l.Enrol(ctx, code, "web1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Enrol(ctx, code, "web2"); !errors.Is(err, ErrCode) {
		t.Errorf("used: %v", err)
	}
	late, _ := l.NewCode(ctx, "", -time.Second)
	if _, err := l.Enrol(ctx, late, "web2"); !errors.Is(err, ErrCode) {
		t.Errorf("expired: %v", err)
	}
	any, _ := l.NewCode(ctx, "", time.Hour)
	if _, err := l.Enrol(ctx, any, "web1"); !errors.Is(err, ErrTaken) {
		t.Errorf("taken: %v", err)
	}
	if _, err := l.Enrol(ctx, any, "web2"); err != nil {
		t.Errorf("a refused name has used the code up: %v", err)
	}
	if err := l.Revoke(ctx, "operator", "web1"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Authenticate(ctx, token); !errors.Is(err, ErrToken) {
		t.Errorf("revoked: %v", err)
	}
	its, _ := l.NewCode(ctx, "web1", time.Hour)
	if _, err := l.Enrol(ctx, its, "web3"); !errors.Is(err, ErrCode) {
		t.Errorf("a code of another host: %v", err)
	}
	if token, err = l.Enrol(ctx, its, "web1"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Authenticate(ctx, token); err != nil {
		t.Errorf("enrolled again: %v", err)
	}
	log, err := l.AuditLog(ctx, 0, 10)
	if err != nil || len(log) != 4 || log[0].What != "enrol" || log[1].What != "revoke" || log[1].Who != "operator" || log[1].Detail != "web1" {
		t.Errorf("audit log %+v, %v", log, err)
	}
}

// TestOneCode is used by many at once: one of them enrols.
func TestOneCode(t *testing.T) {
	l := opened(t, filepath.Join(t.TempDir(), "hub.db"))
	code, err := l.NewCode(t.Context(), "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	results := make([]error, 20)
	for i := range results {
		all.Go(func() { _, results[i] = l.Enrol(t.Context(), code, fmt.Sprintf("host%d", i)) })
	}
	all.Wait()
	done := 0
	for _, err := range results {
		if err == nil {
			done++
		} else if !errors.Is(err, ErrCode) {
			t.Error(err)
		}
	}
	if hosts, err := l.Hosts(t.Context()); done != 1 || len(hosts) != 1 || err != nil {
		t.Errorf("%d enrolled, hosts %v, %v", done, hosts, err)
	}
}

func report(state fleet.State, identity string) fleet.Report {
	r := fleet.Report{
		Distribution: "debian 12",
		Kernels:      []fleet.Kernel{{Release: "6.1", Arch: "x86_64", Identity: identity, Running: true, Buildable: true}},
		Modules:      []fleet.Module{{Name: "hello", Version: "1.0", Kernel: "6.1", Arch: "x86_64", State: state}},
	}
	if state != fleet.Ready {
		r.Modules[0].Reason, r.Modules[0].Key = "no headers", strings.Repeat("c", 64)
	}
	return r
}

// TestReport has three hosts with two builds of one release, and opens the database
// again.
func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hub.db")
	l := opened(t, file)
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for name, r := range map[string]fleet.Report{"one": report(fleet.Ready, a), "two": report(fleet.Waiting, a), "three": report(fleet.Failed, b), "gone": report(fleet.Failed, b)} {
		h := enrolled(t, l, name)
		for range 2 { // the second takes the place of the first
			if err := l.Report(t.Context(), h.ID, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Revoke(t.Context(), "operator", "gone"); err != nil {
		t.Fatal(err)
	}
	l.Close()
	l = opened(t, file)
	got, err := l.Wants(t.Context())
	want := []Want{
		{Module: "hello", Version: "1.0", Kernel: "6.1", Arch: "x86_64", Identity: a, Key: strings.Repeat("c", 64), Hosts: map[fleet.State]int{fleet.Ready: 1, fleet.Waiting: 1}, Reason: "no headers"},
		{Module: "hello", Version: "1.0", Kernel: "6.1", Arch: "x86_64", Identity: b, Key: strings.Repeat("c", 64), Hosts: map[fleet.State]int{fleet.Failed: 1}, Reason: "no headers"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	h, last, err := l.Last(t.Context(), "two")
	if err != nil || h.Distribution != "debian 12" || h.Seen.IsZero() || len(last.Kernels) != 1 || !last.Kernels[0].Buildable || len(last.Modules) != 1 || last.Modules[0].Reason != "no headers" {
		t.Errorf("last %+v %+v, %v", h, last, err)
	}
}

func TestBackup(t *testing.T) {
	dir := t.TempDir()
	l := opened(t, filepath.Join(dir, "hub.db"))
	enrolled(t, l, "one")
	copied := filepath.Join(dir, "copy.db")
	if err := l.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	enrolled(t, l, "two")
	if hosts, err := opened(t, copied).Hosts(t.Context()); err != nil || len(hosts) != 1 {
		t.Errorf("in the copy: %v, %v", hosts, err)
	}
	if err := l.Backup(t.Context(), copied); err == nil {
		t.Error("a backup was overwritten")
	}
}

// TestNewer has a database of a later version.
func TestNewer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hub.db")
	l := opened(t, file)
	if _, err := l.db.ExecContext(t.Context(), "PRAGMA user_version = 2"); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := Open(t.Context(), file); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("got %v", err)
	}
}
