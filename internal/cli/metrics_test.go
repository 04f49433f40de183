// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"
	"time"

	"dkms-go/internal/action"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// What is in a label must not end it, nor the line.
func TestMetricsText(t *testing.T) {
	key := state.Key{ID: state.ID{Module: "a", Version: "1"}, Kernel: "k", Arch: "x"}
	built := state.Record{Format: 1, Built: time.Unix(1700000000, 0), Seconds: 1.5}
	var b strings.Builder
	err := samplesOf(action.Metrics{
		Version: "a\"b\\c\nd\xff",
		Modules: []action.Standing{
			{Key: state.Key{ID: key.ID}, State: action.StateAdded},
			{Key: key, State: action.StateInstalled, Stale: []string{"compiler"}, Record: built},
		},
		Outcomes: []state.Outcome{{Module: "a", Version: "1", Kernel: "k", Arch: "x", State: state.OutcomeWaiting, Waiting: "headers"}},
		Boot:     &plan.Target{Kernel: "k", Arch: "x"},
	}).write(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`dkms_info{version="a\"b\\c\nd` + "\ufffd" + `"} 1`,
		`dkms_modules{state="added"} 1`,
		`dkms_modules{state="broken"} 0`,
		`dkms_module_state{module="a",version="1",state="added"} 1`,
		`dkms_module_stale{module="a",version="1",kernel="k",arch="x"} 1`,
		`dkms_module_built_timestamp_seconds{module="a",version="1",kernel="k",arch="x"} 1700000000`,
		`dkms_module_build_duration_seconds{module="a",version="1",kernel="k",arch="x"} 1.5`,
		`dkms_module_waiting{module="a",version="1",kernel="k",arch="x",waiting="headers",required="false"} 1`,
		`dkms_boot_kernel_ready{kernel="k",arch="x"} 0`,
		`dkms_last_build_timestamp_seconds 1700000000`,
		`dkms_cache_results 0`,
	} {
		if !strings.Contains(b.String(), "\n"+want+"\n") {
			t.Errorf("no line %s in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "dkms_module_failed") {
		t.Errorf("a metric without values is there:\n%s", b.String())
	}
}
