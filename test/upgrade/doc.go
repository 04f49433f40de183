// SPDX-License-Identifier: Apache-2.0

// Package upgrade holds dkms to what people do with a package manager: real
// apt, real kernels, real packages of modules, in throw-away roots with our own
// package installed.
package upgrade
