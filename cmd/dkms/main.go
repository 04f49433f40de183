// SPDX-License-Identifier: Apache-2.0

// Command dkms builds and installs kernel modules for every kernel of a
// machine: Dynamic Kernel Module Support.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"dkms-go/internal/cli"
)

// version is set when a release is built.
var version = "devel"

// Most commands end before there is garbage worth collecting; the few that make
// much are kept to what a small machine has to spare.
const (
	gcPercent   = 800
	memoryLimit = 48 << 20 // bytes
)

func main() {
	syscall.Umask(0o022)
	if cli.IsConfined(os.Args) {
		os.Exit(cli.Confined(os.Args))
	}
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// A reader that goes away must not end a change in the middle: writing
	// then fails, and what only lists stops by that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() { cancel(cli.Signal{Number: <-signals}) }()
	os.Exit(cli.Main(ctx, os.Args[1:], cli.Stdio{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ(), Version: version,
	}))
}
