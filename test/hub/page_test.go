// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"dkms-go/internal/fleet"
)

// browser starts Chromium, which trusts the hub's certificate and nothing else.
func browser(t *testing.T, h *hub) context.Context {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(h.data, "tls", "server.pem"), filepath.Join(h.data, "tls", "server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(pair.Leaf.RawSubjectPublicKeyInfo)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.Flag("disable-quic", true),
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(sum[:])))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// shows waits until an expression of the page is true.
func shows(t *testing.T, ctx context.Context, what string) {
	t.Helper()
	var ok bool
	var err error
	for end := time.Now().Add(20 * time.Second); !ok && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		err = chromedp.Run(ctx, chromedp.Evaluate(what, &ok)) // fails while a page is loaded
	}
	if !ok {
		var text string
		_ = chromedp.Run(ctx, chromedp.Evaluate("location.href + '\\n' + document.body.innerText", &text))
		t.Fatalf("the page doesn't come to %s: %v\n%s", what, err, text)
	}
}

func act(t *testing.T, ctx context.Context, actions ...chromedp.Action) {
	t.Helper()
	if err := chromedp.Run(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// picture keeps a screenshot where DKMS_SCREENSHOTS says.
func picture(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	var png []byte
	act(t, ctx, chromedp.CaptureScreenshot(&png))
	if dir := os.Getenv("DKMS_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// shown is what a host of the pictures reports.
func shown(host int, fixed bool) fleet.Report {
	r := fleet.Report{Schema: fleet.ReportSchema, Time: time.Now(), Distribution: "debian 12"}
	for k, release := range []string{"6.1.0-56-amd64", "6.12.117+deb12-amd64"} {
		r.Kernels = append(r.Kernels, fleet.Kernel{Release: release, Arch: "x86_64", Identity: fmt.Sprintf("%x%063x", 10+k, k), Running: k == 0, NextBoot: k == 1, Buildable: host == 1})
		for _, name := range []string{"acpi-call", "evdi", "v4l2loopback", "zfs"} {
			m := fleet.Module{Name: name, Version: "2.3", Kernel: release, Arch: "x86_64", State: fleet.Ready, Origin: "prebuilt"}
			switch {
			case name == "evdi" && k == 1 && !fixed:
				m.State, m.Origin, m.Reason = fleet.Failed, "", "evdi_gem.c:171: too many arguments to function 'get_user_pages'"
			case name == "zfs" && k == 1:
				m.State, m.Origin, m.Reason = fleet.Excluded, "", "not for kernels behind 6.11"
			case name == "v4l2loopback" && host == 2:
				m.State, m.Origin, m.Reason = fleet.Waiting, "", "no headers"
			}
			r.Modules = append(r.Modules, m)
		}
	}
	return r
}

// TestPages uses the pages as people do, in a real browser.
func TestPages(t *testing.T) {
	h := start(t, program(t), filepath.Join(t.TempDir(), "data"))
	tokens := map[int]string{}
	say := func(host int, fixed bool) {
		t.Helper()
		text, _ := json.Marshal(shown(host, fixed))
		if status, answer, err := h.send(t.Context(), "POST", "/api/v1/report", tokens[host], text); err != nil || status != 204 {
			t.Fatal(status, answer, err)
		}
	}
	for host := 1; host <= 3; host++ {
		tokens[host] = h.enrol(t, fmt.Sprint("web", host))
		say(host, host == 3)
	}
	ctx := browser(t, h)
	home := "https://operator:" + h.operator + "@" + h.address + "/"

	t.Run("matrix", func(t *testing.T) {
		act(t, ctx, chromedp.EmulateViewport(1200, 700), chromedp.Navigate(home))
		shows(t, ctx, `document.querySelectorAll("tbody tr").length === 4 && document.querySelector("td.failed").innerText.startsWith("failed\n2 hosts, 1 ready")`)
		picture(t, ctx, "hub-matrix")
	})
	t.Run("live", func(t *testing.T) {
		act(t, ctx, chromedp.Evaluate(`window.stays = true; document.querySelector(".wide").focus()`, nil))
		say(1, true)
		shows(t, ctx, `document.querySelector("td.failed").innerText.startsWith("failed\n1 host, 2 ready")`)
		say(2, true)
		shows(t, ctx, `!document.querySelector("td.failed") && window.stays && document.activeElement.className === "wide"`)
	})
	t.Run("keyboard", func(t *testing.T) {
		act(t, ctx, chromedp.Navigate(home))
		say(1, false)
		reach := func(text string) {
			t.Helper()
			for range 20 {
				var at string
				act(t, ctx, chromedp.KeyEvent(kb.Tab), chromedp.Evaluate(`document.activeElement.innerText || ""`, &at))
				if strings.HasPrefix(at, text) {
					act(t, ctx, chromedp.KeyEvent(kb.Enter))
					return
				}
			}
			t.Fatalf("no way to %q by the keyboard", text)
		}
		reach("evdi")
		shows(t, ctx, `location.pathname === "/modules/evdi" && document.querySelector("td.failed").parentElement.innerText.includes("get_user_pages")`)
		picture(t, ctx, "hub-module")
		reach("Hosts")
		shows(t, ctx, `location.pathname === "/hosts" && document.querySelector("tbody th").innerText === "web1"`)
		reach("web1")
		shows(t, ctx, `location.pathname === "/hosts/web1" && document.querySelector("td.failed").parentElement.innerText.includes("get_user_pages")`)
		picture(t, ctx, "hub-host")
	})
	t.Run("phone", func(t *testing.T) {
		act(t, ctx, chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile), chromedp.Navigate(home))
		shows(t, ctx, `document.querySelector("tbody tr") && document.documentElement.scrollWidth <= innerWidth`)
		picture(t, ctx, "hub-phone")
	})
	t.Run("dark", func(t *testing.T) {
		background := func(scheme string) string {
			var colour string
			act(t, ctx, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
				chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &colour))
			return colour
		}
		if light, dark := background("light"), background("dark"); light == dark {
			t.Errorf("the background is %s, light and dark", dark)
		}
		act(t, ctx, chromedp.EmulateViewport(1200, 700), chromedp.Navigate(home))
		shows(t, ctx, `!!document.querySelector("tbody tr")`)
		picture(t, ctx, "hub-dark")
	})
	t.Run("without JavaScript", func(t *testing.T) {
		var text string
		act(t, ctx, emulation.SetScriptExecutionDisabled(true), chromedp.Navigate(home), chromedp.Text("main", &text))
		if !strings.Contains(text, "v4l2loopback") || !strings.Contains(text, "1 host, 2 ready") {
			t.Errorf("the page has %s", text)
		}
	})
}
