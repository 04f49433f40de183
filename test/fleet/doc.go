// SPDX-License-Identifier: Apache-2.0

// Package fleet has two machines: a builder, with a compiler and the kernels' headers,
// and a target with a kernel and nothing to build with. What the one builds the other
// installs, by a file, a web server (nginx) or a registry (Debian's docker-registry).
package fleet
