// SPDX-License-Identifier: Apache-2.0

package host

// HubData is the data directory of a hub, if nothing else is said.
func HubData() string { return "/var/lib/dkms-hub" }
