// SPDX-License-Identifier: Apache-2.0

package cli

import "dkms-go/internal/run"

// IsConfined tells whether the program was started to confine itself and run one
// command of a module; args are those of the process, its name included.
func IsConfined(args []string) bool { return run.IsConfined(args) }

// Confined does that and returns the exit code.
func Confined(args []string) int { return run.Confined(args) }
