// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dkms-go/internal/fleet"
	"dkms-go/internal/hub/data"
)

// What the benchmarks are about: a fleet whose hosts have three kernels and five
// modules each, and how many requests are under way at once.
const (
	fleetHosts = 10000
	clients    = 32
)

func fleetReport(host int) []byte {
	r := fleet.Report{Schema: fleet.ReportSchema, Time: time.Now(), Distribution: "debian 12"}
	for k := range 3 {
		release := fmt.Sprintf("6.1.0-%d-amd64", 47+(host+k)%10)
		r.Kernels = append(r.Kernels, fleet.Kernel{Release: release, Arch: "x86_64", Identity: fmt.Sprintf("%064x", k), Running: k == 0, NextBoot: k == 2})
		for m := range 5 {
			state := fleet.Ready
			if (host+m)%50 == 0 {
				state = fleet.Waiting
			}
			r.Modules = append(r.Modules, fleet.Module{Name: fmt.Sprint("module", m), Version: "1.0", Kernel: release, Arch: "x86_64", State: state, Key: fmt.Sprintf("%064x", m)})
		}
	}
	text, _ := json.Marshal(r)
	return text
}

// each runs do for 0 to n-1, clients at once, and returns how long each took, sorted.
func each(b *testing.B, n int, do func(i int) error) []time.Duration {
	b.Helper()
	var next atomic.Int64
	took := make([]time.Duration, n)
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				began := time.Now()
				if err := do(i); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(began)
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took
}

// memory returns what a process has had in memory at most, in MiB.
func (h *hub) memory(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid))
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if err != nil || m == nil {
		b.Fatal("no VmHWM", err)
	}
	kib, _ := strconv.ParseFloat(string(m[1]), 64)
	return kib / 1024
}

// BenchmarkReports has 10,000 hosts report once each per iteration.
func BenchmarkReports(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "data")
	d, err := data.Open(b.Context(), dir)
	if err != nil {
		b.Fatal(err)
	}
	tokens := make([]string, fleetHosts)
	for i := range tokens {
		code, err := d.Ledger.NewCode(b.Context(), "", time.Hour)
		if err == nil {
			tokens[i], err = d.Ledger.Enrol(b.Context(), code, fmt.Sprint("host", i))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	d.Close()
	h := start(b, program(b), dir)
	for b.Loop() {
		took := each(b, fleetHosts, func(i int) error {
			status, text, err := h.send(b.Context(), "POST", "/api/v1/report", tokens[i], fleetReport(i))
			if err == nil && status != http.StatusNoContent {
				err = fmt.Errorf("%d %s", status, text)
			}
			return err
		})
		var sum time.Duration
		for _, t := range took {
			sum += t
		}
		b.ReportMetric(fleetHosts/(sum.Seconds()/clients), "reports/s")
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	}
	began := time.Now()
	if status, _, err := h.send(b.Context(), "GET", "/", h.operator, nil); err != nil || status != http.StatusOK {
		b.Fatal(status, err)
	}
	b.ReportMetric(float64(time.Since(began).Milliseconds()), "page-ms")
	b.ReportMetric(h.memory(b), "MiB")
}

// nginx serves a directory by TLS with the hub's certificate, and returns its address.
func nginx(b *testing.B, h *hub, dir string) string {
	b.Helper()
	const address = "127.0.0.1:18443"
	conf := filepath.Join(b.TempDir(), "nginx.conf")
	pem := filepath.Join(h.data, "tls", "server.pem")
	text := fmt.Sprintf(`daemon off; user root; worker_processes auto; pid %s.pid; error_log stderr;
events {}
http { access_log off; server { listen %s ssl http2; ssl_certificate %s; ssl_certificate_key %s; root %s; } }
`, conf, address, pem, pem, dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), "nginx", "-c", conf)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	for range 50 {
		if answer, err := h.client.Get("https://" + address + "/"); err == nil {
			answer.Body.Close()
			return address
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.Fatalf("nginx doesn't serve:\n%s", &log)
	return ""
}

// BenchmarkLookup asks the hub, and nginx with the same file, whether a prebuilt is
// there: a HEAD of its tag, 2,000 times per iteration.
func BenchmarkLookup(b *testing.B) {
	const lookups = 2000
	h := start(b, program(b), filepath.Join(b.TempDir(), "data"))
	tag := strings.Repeat("a", 64)
	r := h.repository(b, "modules/hello", h.operator)
	if _, err := push(b.Context(), r, tag); err != nil {
		b.Fatal(err)
	}
	_, manifest, err := h.send(b.Context(), "GET", "/v2/modules/hello/manifests/"+tag, h.operator, nil)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, tag), []byte(manifest), 0o644); err != nil {
		b.Fatal(err)
	}
	static := nginx(b, h, dir)
	for name, url := range map[string]string{"hub": "https://" + h.address + "/v2/modules/hello/manifests/" + tag, "nginx": "https://" + static + "/" + tag} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				took := each(b, lookups, func(int) error { return head(b.Context(), h.client, url, h.operator) })
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			}
		})
	}
}

func head(ctx context.Context, client *http.Client, url, token string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	return nil
}
