// SPDX-License-Identifier: Apache-2.0

package lab

import "testing"

// TestSchemas wants the strict schemas to take what they promise, and nothing else.
func TestSchemas(t *testing.T) {
	s := JSONSchemas(t)
	for text, ok := range map[string]bool{
		`{"schema":"dkms-lint/1","directory":"/x","findings":[]}`:                                                           true,
		`{"schema":"dkms-lint/1","directory":"/x","findings":[{"check":"uname","severity":"error","what":"w"}]}`:            true,
		`{"schema":"dkms-lint/1","directory":"/x","findings":[{"check":"uname","severity":"bad","what":"w"}]}`:              false,
		`{"schema":"dkms-lint/1","directory":"/x","findings":[{"check":"uname","severity":"error","what":"w","more":"x"}]}`: false,
		`{"schema":"dkms-lint/1","directory":"/x","findings":[],"more":1}`:                                                  false,
		`{"schema":"dkms-lint/1","findings":[]}`:                                                                            false,
		`{"schema":"dkms-lint/2","directory":"/x","findings":[]}`:                                                           false,
		`{"schema":"dkms-log/1","path":"/x","when":"yesterday","failed":false}`:                                             false,
		`{"schema":"dkms-log/1","path":"/x","when":"2026-01-02T03:04:05Z","failed":false}`:                                  true,
		`{"schema":"dkms-cache/1","directory":"/x","removed_bytes":1}`:                                                      true,
		`{"schema":"dkms-cache/1","directory":"/x","removed_bytes":1,"results":1}`:                                          false,
		`{"schema":"dkms-lint/1","directory":"/x","findings":[]} {}`:                                                        false,
		`[]`: false,
	} {
		if err := s.Check([]byte(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
