// SPDX-License-Identifier: Apache-2.0

package action

import (
	"os"

	"dkms-go/internal/conf"
	"dkms-go/internal/kernel"
	"dkms-go/internal/plan"
)

// kernelFacts returns what a conf's exclusions are checked against.
func (e *Engine) kernelFacts(t plan.Target) conf.Facts {
	k := e.kernel(t)
	f := conf.Facts{Release: t.Kernel, Arch: t.Arch, ConfigFile: k.ConfigFile}
	if fi, err := os.Stat(k.ConfigFile); err == nil && fi.Mode().IsRegular() {
		f.Config = func(symbol string) (string, bool) { v, ok := e.config(t)[symbol]; return v, ok }
	} else if !k.HasHeaders() { // prebuilt objects need none
		if c := e.abi(t).Config(); len(c) > 0 {
			f.ConfigFile = ""
			f.Config = func(symbol string) (string, bool) { v, ok := c[symbol]; return v, ok }
		}
	}
	return f
}

// config returns a kernel's configuration, which is read once, when a symbol is
// asked for: few confs do.
func (e *Engine) config(t plan.Target) kernel.Config {
	k := e.kernel(t)
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.configs[t]
	if !ok {
		c, _ = k.Config()
		e.configs[t] = c
	}
	return c
}
