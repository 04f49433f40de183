// SPDX-License-Identifier: Apache-2.0

package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"dkms-go/internal/conf"
	"dkms-go/internal/dsse"
	"dkms-go/internal/fleet"
	"dkms-go/internal/plan"
	"dkms-go/internal/prebuilt"
	"dkms-go/internal/prebuilt/dir"
	"dkms-go/internal/prebuilt/oci"
	"dkms-go/internal/prebuilt/web"
	"dkms-go/internal/state"
)

// fetching reports whether sources of prebuilts are asked: the administrator has named
// some, and what is done isn't a build for its own sake or a trial. It is the one place
// that decides whether a connection may be opened.
func (e *Engine) fetching() bool {
	return len(e.Framework.PrebuiltSources) > 0 && e.Framework.Prebuilt != conf.PrebuiltNever && !e.compiles && e.trial == nil && !e.CheckReproducible
}

// source returns the place that an address names.
func (e *Engine) source(address string) (prebuilt.Source, error) {
	u, err := prebuilt.ParseURL(address)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "file" {
		return dir.Source{Dir: u.Path}, nil
	}
	hub, err := fleet.Load(e.Paths.HubFile)
	isHub := err == nil && u.Scheme == "oci" && hub.At(u.Host)
	client, err := e.client(hub, isHub)
	if err != nil {
		return nil, fmt.Errorf("the authorities for sources of prebuilts: %w", err)
	}
	switch {
	case isHub:
		return oci.Open(u, oci.Access{Client: client, TLS: true, Password: func(string) (string, string) { return hub.Name, hub.Token }})
	case u.Scheme == "oci":
		file := oci.ConfigFile(func(name string) string { return lastValue(e.Environ, name) })
		return oci.Open(u, oci.Access{Client: client, Password: oci.Passwords(file)})
	}
	return web.Source{URL: u, Client: client}, nil
}

// client returns what speaks to a source, which may be this host's hub.
func (e *Engine) client(hub fleet.Membership, isHub bool) (*http.Client, error) {
	var authorities []byte
	switch {
	case isHub && hub.Authority != "":
		authorities = []byte(hub.Authority)
	case !isHub && e.Framework.PrebuiltCA != "":
		var err error
		if authorities, err = os.ReadFile(e.Framework.PrebuiltCA); err != nil {
			return nil, err
		}
	}
	agent, _, _ := strings.Cut(e.Version, " ")
	return web.Client(authorities, agent)
}

// lookup is a search for a prebuilt of a module for a kernel.
type lookup struct {
	*Engine
	key     state.Key
	t       plan.Target
	conf    *conf.Module
	out     io.Writer
	digest  string
	trusted []dsse.Key
	tried   []state.Tried
}

// miss notes why a source has not given anything.
func (l *lookup) miss(source, why string) {
	why, _, _ = strings.Cut(why, "\n")
	l.tried = append(l.tried, state.Tried{Source: source, Key: l.digest, Outcome: why})
	fmt.Fprintf(l.out, "No prebuilt of %s for kernel %s from %s: %s\n", l.key.ID, l.key.Kernel, source, why)
}

// prepare finds out what to ask for. Without a key that is trusted, or a kernel that can
// be told from others, nobody is asked.
func (l *lookup) prepare(ctx context.Context, trust []string) error {
	source, err := l.sourceDigest(l.key.ID)
	if err != nil {
		return err
	}
	options, err := l.optionsDigest(ctx, l.key, l.conf)
	if err != nil {
		return err
	}
	k := prebuilt.Key{ID: l.key.ID, Source: source, Options: options, Kernel: l.fingerprint(l.t)}
	if l.digest, err = k.Digest(); err != nil {
		return err
	}
	l.trusted, err = l.trustedKeys(trust)
	return err
}

// find asks sources, one after another, and returns what the first has that fits this
// machine, checked and not yet placed; nil if none has.
func (l *lookup) find(ctx context.Context, addresses []string) *arrival {
	for _, address := range addresses {
		if ctx.Err() != nil {
			return nil
		}
		a, err := l.ask(ctx, address)
		if err == nil {
			return a
		}
		l.miss(address, err.Error())
	}
	return nil
}

func (l *lookup) ask(ctx context.Context, address string) (*arrival, error) {
	if why := l.isDown(address); why != "" {
		return nil, fmt.Errorf("not asked again: %s", why)
	}
	s, err := l.source(address)
	if err != nil {
		return nil, err
	}
	b, err := s.Fetch(ctx, prebuilt.Query{Result: l.key, Key: l.digest}, l.trusted)
	if err != nil {
		l.noteDown(address, err)
		return nil, err
	}
	a := &arrival{Engine: l.Engine, bundle: b, from: address, lookup: l.digest, tried: l.tried}
	return a, a.check(ctx, []plan.Target{l.t})
}

// isDown returns why a source could not be asked before in this run.
func (e *Engine) isDown(address string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.down[address]
}

// noteDown remembers that a source doesn't answer: each of a machine's modules would wait
// for it otherwise. What it answers isn't meant.
func (e *Engine) noteDown(address string, err error) {
	if errors.Is(err, prebuilt.ErrNone) || errors.Is(err, prebuilt.ErrFormat) || errors.Is(err, prebuilt.ErrUnsigned) ||
		errors.Is(err, dsse.ErrUnknownKey) || errors.Is(err, dsse.ErrSignature) || errors.Is(err, dsse.ErrFormat) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down == nil {
		e.down = map[string]string{}
	}
	e.down[address] = err.Error()
}

// fetchStep takes the place of a build if a source of prebuilts has its result: done
// says so. Without, what was asked is kept for the record of the build, and the error is
// that nothing may, or can, be built here.
func (w *performance) fetchStep(ctx context.Context, s plan.Step, t plan.Target, out io.Writer) (done bool, err error) {
	able := w.kernel(t).HasHeaders() && !w.bare(s.Key.ID)
	only := w.Framework.Prebuilt == conf.PrebuiltOnly
	if !w.fetching() || w.Force && able && !only {
		return false, nil
	}
	m, err := w.conf(s.Key, io.Discard)
	if err != nil {
		return false, err
	}
	l := &lookup{Engine: w.Engine, key: s.Key, t: t, conf: m, out: out}
	var a *arrival
	if err := l.prepare(ctx, nil); err != nil {
		l.miss(strings.Join(w.Framework.PrebuiltSources, " "), "not asked: "+err.Error())
	} else {
		a = l.find(ctx, w.Framework.PrebuiltSources)
	}
	if a != nil {
		if err := a.place(ctx); err != nil {
			return false, err
		}
		fmt.Fprintf(out, "Using the prebuilt %s for kernel %s from %s, signed by %s.\n", s.Key.ID, t.Kernel, a.from, a.bundle.By.Name)
		w.keepTried(s.Key, nil, a.from)
		return true, w.rooms[s.Key.ID].Spare()
	}
	w.keepTried(s.Key, l.tried, "")
	switch {
	case ctx.Err() != nil:
		return false, fail(Interrupted, context.Cause(ctx))
	case w.bare(s.Key.ID):
		return false, w.noPrebuilt(s.Key).hint("Asked: %s", asked(l.tried))
	case only:
		return false, failf(NoPrebuilt, "there is no prebuilt of %s for kernel %s, and framework.conf has prebuilt=only", s.Key.ID, t.Kernel).hint("Asked: %s", asked(l.tried))
	case !able:
		return false, w.noHeaders(ctx, t).hint("There is no prebuilt either. Asked: %s", asked(l.tried))
	}
	return false, nil
}

func asked(tried []state.Tried) string {
	var list []string
	for _, t := range tried {
		list = append(list, t.Source+": "+t.Outcome)
	}
	return strings.Join(list, "; ")
}

// keepTried keeps what a search has come to, for the record of a build and for the
// journal.
func (w *performance) keepTried(key state.Key, tried []state.Tried, from string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tried == nil {
		w.tried, w.from = map[state.Key][]state.Tried{}, map[state.Key]string{}
	}
	w.tried[key], w.from[key] = tried, from
}

// sought returns what keepTried has kept.
func (w *performance) sought(key state.Key) (tried []state.Tried, from string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tried[key], w.from[key]
}

// fetchedFrom words for a result where it came from, or which sources had none.
func (w *performance) fetchedFrom(key state.Key) string {
	tried, from := w.sought(key)
	switch {
	case from != "":
		return "prebuilt, from " + from
	case len(tried) > 0:
		return "no prebuilt: " + asked(tried)
	}
	return ""
}

// Pull installs a module for targets from sources of prebuilts: those that addresses
// name, else those of framework.conf. Nothing is built.
func (e *Engine) Pull(ctx context.Context, id state.ID, targets []plan.Target, addresses, trust []string) error {
	if err := e.RequireRoot(); err != nil {
		return err
	}
	if err := requireID(id, "pull"); err != nil {
		return err
	}
	if len(addresses) == 0 {
		addresses = e.Framework.PrebuiltSources
	}
	if e.Framework.Prebuilt == conf.PrebuiltNever {
		return failf(NoPrebuilt, "framework.conf has prebuilt=never: no source of prebuilts is asked")
	}
	if len(addresses) == 0 {
		return failf(NoPrebuilt, "no source of prebuilts is named").hint("Name one with --from, or in framework.conf: prebuilt_sources.")
	}
	if err := e.requireSound(id); err != nil {
		return err
	}
	for _, t := range distinct(targets) {
		if err := e.pull(ctx, id, t, addresses, trust); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) pull(ctx context.Context, id state.ID, t plan.Target, addresses, trust []string) error {
	l := &lookup{Engine: e, key: t.Key(id), t: t, out: e.Out}
	err := e.requireAdded(id)
	if err == nil {
		if l.conf, err = e.load(ctx, id, t, conf.Auto, e.Err); strict(l.conf, err) != nil {
			return confFailure(strict(l.conf, err))
		}
		err = l.prepare(ctx, trust)
	} else { // its source isn't known: what is there by its name is held against the kernel
		l.trusted, err = e.trustedKeys(trust)
	}
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	if err != nil {
		return fail(NoPrebuilt, err)
	}
	a := l.find(ctx, addresses)
	if a == nil {
		return failf(NoPrebuilt, "there is no prebuilt of %s for kernel %s", id, t.Kernel).hint("Asked for %s: %s", cmp.Or(l.digest, "its name"), asked(l.tried))
	}
	return e.take(ctx, a, []plan.Target{t})
}

// Push puts the result of a module for each target into a registry or directory, signed
// with the key in a file.
func (e *Engine) Push(ctx context.Context, id state.ID, targets []plan.Target, to string, o ExportOptions) error {
	if err := requireID(id, "push"); err != nil {
		return err
	}
	if err := e.requireAdded(id); err != nil {
		return err
	}
	if e.Framework.Prebuilt == conf.PrebuiltNever {
		return failf(NoPrebuilt, "framework.conf has prebuilt=never: nothing is sent")
	}
	key, err := signingKey(o.SignKey)
	if err != nil {
		return err
	}
	if key == nil {
		return failf(KeyFailed, "the key that signs is not given: nobody would take what isn't signed").hint("Say: dkms push %s --to <address> --sign <key>", id)
	}
	s, err := e.source(to)
	if err != nil {
		return fail(ArchiveFailed, err)
	}
	sink, ok := s.(prebuilt.Sink)
	if !ok {
		return failf(ArchiveFailed, "nothing can be put to %s: it only hands out", to).hint("Export to a directory that a web server has: dkms push %s --to file:///DIR", id)
	}
	sign := func(kind string, text []byte) ([]byte, error) { return dsse.Sign(kind, text, key) }
	for _, t := range distinct(targets) {
		b, err := e.bundleOf(ctx, id, t, key, o.WithSource)
		if err != nil {
			return err
		}
		digest, err := prebuilt.KeyOf(b.Manifest).Digest()
		if err != nil {
			return fail(ArchiveFailed, err)
		}
		if e.DryRun {
			fmt.Fprintf(e.Out, "Would push %s to %s as %s.\n", t.Key(id), to, digest)
			continue
		}
		at, err := sink.Push(ctx, b, digest, sign)
		if err != nil {
			return fail(ArchiveFailed, err)
		}
		fmt.Fprintf(e.Out, "Pushed: %s\n", at)
	}
	return nil
}
