// SPDX-License-Identifier: Apache-2.0

package host

// Confined are the places that a confined command sees otherwise than the rest of
// the machine (see run.Confinement).
type Confined struct {
	// Scratch are the directories for temporary files: empty, writable, and gone
	// with the command. The first is its home.
	Scratch []string
	// Hidden are directories that are empty: what services listen at.
	Hidden []string
	// Dev has these Devices and links, and no other.
	Dev     string
	Devices []string
	Links   map[string]string
}

// ConfinedPlaces returns those of Linux (hier(7), fhs(7); kernel source,
// Documentation/admin-guide/devices.txt).
func ConfinedPlaces() Confined {
	return Confined{
		Scratch: []string{"/tmp", "/var/tmp", "/dev/shm"},
		Hidden:  []string{"/run"},
		Dev:     "/dev",
		Devices: []string{"null", "zero", "full", "random", "urandom"},
		Links: map[string]string{
			"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
		},
	}
}
