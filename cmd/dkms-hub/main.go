// SPDX-License-Identifier: Apache-2.0

// Command dkms-hub is the hub of a fleet: it keeps prebuilt modules and their
// sources, hears what hosts have, and shows modules and kernels on one page.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"dkms-go/internal/hubcli"
)

// version is set when a release is built.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(hubcli.Main(ctx, os.Args[1:], hubcli.Stdio{Out: os.Stdout, Err: os.Stderr, Version: version}))
}
