// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"path/filepath"
	"testing"

	"dkms-go/internal/verify"
)

// BenchmarkOneObject is the usual case, a kernel of which nothing was read
// yet, and the one without headers.
func BenchmarkOneObject(b *testing.B) {
	m := machines(b)["new"]
	path := filepath.Join(m.root, "lib/modules", m.release, "kernel/drivers/net/dummy.ko.xz")
	for _, way := range []string{"with headers", "without headers"} {
		b.Run(way, func(b *testing.B) {
			for b.Loop() {
				k := m.open(way == "with headers")
				if r := verify.Objects([]verify.File{{Path: path}}, verify.Target{Kernel: k})[0]; r.Refused() {
					b.Fatalf("%+v", r)
				}
			}
		})
	}
}
