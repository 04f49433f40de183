// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dkms-go/internal/conf"
	"dkms-go/internal/initramfs"
	"dkms-go/internal/mok"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

// comparison gathers the facts of one prospect.
type comparison struct {
	*performance
	key state.Key
	t   plan.Target
	m   *conf.Module // nil if the conf can't be used
	o   *Prospect
}

func (c *comparison) add(about, wants, has string, fits Fit) {
	c.o.Facts = append(c.o.Facts, Fact{about, wants, has, fits})
}

func fit(ok bool) Fit {
	if ok {
		return Fits
	}
	return Misfits
}

// would reports whether the plan has a step of a kind for the module.
func (c *comparison) would(k plan.Kind) bool {
	return slices.ContainsFunc(c.o.Steps, func(s plan.Step) bool { return s.Kind == k })
}

// compare gathers the facts in the order in which they count.
func (c *comparison) compare(ctx context.Context) {
	c.source()
	if err := c.facts.Results[c.key].Err; err != nil { // also where nothing is to be done
		c.add("dkms.conf", "", confFailure(err).Error(), Misfits)
		if c.o.Failure == nil && len(c.o.Steps) == 0 {
			c.o.Note = strings.TrimPrefix(c.o.Note+", but its dkms.conf can't be used: "+confFailure(err).Error(), ", but ")
		}
		return
	}
	if c.m == nil {
		return
	}
	for _, cl := range c.m.Clauses(c.kernelFacts(c.t)) {
		c.add(cl.Directive, cl.Wants, cl.Has, fit(cl.OK))
	}
	c.headers()
	c.depends()
	c.result()
	c.add("policy", "", policyWord(c.policy(c.m)), Tells)
	if c.would(plan.Build) {
		c.build(ctx)
	}
	if c.would(plan.Install) {
		c.install()
	}
}

// headers tells whether modules can be compiled for the kernel, by the judgement of
// doctor.
func (c *comparison) headers() {
	k := c.kernel(c.t)
	dir := k.SourceDir
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	missing, release := k.HeadersMissing(), k.HeadersRelease()
	switch {
	case !k.HasHeaders():
		c.add("headers", "", "not there: "+dir, Misfits)
	case len(missing) > 0:
		c.add("headers", "", dir+" is not complete, it lacks "+strings.Join(missing, " "), Misfits)
		if c.would(plan.Build) {
			c.fails(failf(MakeFailed, "the headers of kernel %s are not complete, they lack %s", c.t.Kernel, strings.Join(missing, " ")).
				hint("Install them again; `dkms doctor -k %s` names the package.", c.t.Kernel))
		}
	case release != "" && release != c.t.Kernel:
		c.add("headers", "", dir+" is of another kernel: "+release, Misfits)
		if c.would(plan.Build) {
			c.fails(failf(MakeFailed, "the headers in %s are of another kernel: %s", dir, release).
				hint("Install those of kernel %s again; `dkms doctor -k %s` names the package.", c.t.Kernel, c.t.Kernel))
		}
	default:
		c.add("headers", "", dir, Fits)
	}
}

// fails makes a failure that of the prospect, unless it has one: nothing is built
// and installed then.
func (c *comparison) fails(f *Failure) {
	if c.o.Failure == nil {
		c.o.Failure = f
	}
}

// source tells where the module comes from.
func (c *comparison) source() {
	id := c.key.ID
	switch {
	case c.tree.Condition(id) == state.Added:
		dir, err := filepath.EvalSymlinks(c.tree.SourceLink(id))
		if err != nil {
			dir = c.tree.SourceLink(id)
		}
		c.add("source", "", dir+", added", Tells)
	case readable(filepath.Join(c.tree.Source(id), "dkms.conf")):
		c.add("source", "", c.tree.Source(id)+", not added yet", Tells)
	default:
		c.add("source", "", "not there: "+c.tree.Source(id), Misfits)
	}
}

// depends holds BUILD_DEPENDS against what is installed.
func (c *comparison) depends() {
	for _, name := range c.m.BuildDepends {
		has := "not installed"
		id, ok := c.installedAs(name, c.t)
		if ok {
			has = id.String() + ", installed"
		}
		c.add("BUILD_DEPENDS", name, has, fit(ok))
	}
}

// result tells of what was built before, and what has changed since.
func (c *comparison) result() {
	r := c.facts.Results[c.key]
	if active, ok := c.tree.Active(c.key); ok && active != c.key.Version {
		c.add("active", "", state.ID{Module: c.key.Module, Version: active}.String()+", would be replaced by an install", Tells)
	}
	if o, ok := c.tree.Outcome(c.key); ok && o.Error != "" {
		c.add("before", "", string(o.State)+": "+o.Error, Tells)
	}
	if !r.Built {
		c.add("result", "", "none", Tells)
		return
	}
	text := "built"
	if record, err := c.tree.Record(c.key); err == nil {
		text = "built " + record.Built.Local().Format(time.DateTime)
	}
	switch {
	case r.Lost:
		text += "; what was installed is gone or damaged"
	case r.Installed:
		text += ", installed"
	}
	c.add("result", "", text, Tells)
	for _, what := range r.Stale {
		c.add("changed", "", what, Misfits)
	}
	if c.otherSource(c.key) && !slices.Contains(r.Stale, "the source") {
		c.add("changed", "", "the source; hooks build it again, and build --force", Tells)
	}
}

// build tells how the module would be built.
func (c *comparison) build(ctx context.Context) {
	k := c.kernel(c.t)
	chain, err := c.toolchain(ctx, k)
	switch cc := c.absentFor(k, chain); {
	case err != nil:
		c.against("compiler", err)
	case cc != "":
		c.against("compiler", c.compilerMissing(k, chain))
	default:
		built, found, cc := c.compilerVersions(c.config(c.t), chain)
		has, fits := cc, Fits
		if found > 0 {
			has = fmt.Sprintf("%s, version %d", cc, found)
		}
		wants := ""
		if built > 0 {
			if wants = fmt.Sprintf("version %d, which built the kernel", built); built != found {
				fits = Tells
			}
		}
		c.add("compiler", wants, has, fits)
	}
	c.scripts("PRE_BUILD", c.m.PreBuild, "POST_BUILD", c.m.PostBuild)
	for _, p := range c.m.Patches {
		c.add("PATCH", "", p, Tells)
	}
	c.cached(ctx)
	c.confined()
	c.signed(ctx)
}

// against adds a fact that keeps the module from being built.
func (c *comparison) against(about string, err error) {
	c.add(about, "", err.Error(), Misfits)
	c.fails(failed(err))
}

// scripts adds directives that name scripts: pairs of a name and a value.
func (c *comparison) scripts(pairs ...string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			c.add(pairs[i], "", pairs[i+1], Tells)
		}
	}
}

// cached tells whether the result is in the cache.
func (c *comparison) cached(ctx context.Context) {
	s := plan.Step{Kind: plan.Build, Key: c.key}
	for _, step := range c.o.Steps {
		if step.Kind == plan.Build {
			s = step
		}
	}
	r := c.reusable(ctx, s, c.t, c.m, io.Discard)
	switch {
	case c.Framework.ResultCache <= 0:
		c.add("cache", "", "off (result_cache in framework.conf)", Tells)
	case r == nil && c.m.PreBuild+c.m.PostBuild != "":
		c.add("cache", "", "not used: the module has scripts that may read or change anything", Tells)
	case r == nil:
		c.add("cache", "", "not used", Tells)
	case c.Force:
		c.add("cache", "", "not used with --force", Tells)
	default:
		p, err := r.find(r.store().Peek)
		if err == nil {
			c.add("cache", "", "has the result, built "+p.Record.Built.Local().Format(time.DateTime)+": nothing would be compiled", Tells)
		} else {
			c.add("cache", "", "has no result of the same source, settings, kernel and compiler", Tells)
		}
	}
}

// confined tells what the module's commands may do.
func (c *comparison) confined() {
	cage, err := c.confinement(c.key, c.m, io.Discard)
	switch {
	case err != nil:
		c.against("confined", err)
	case cage == nil:
		c.add("confined", "", "no: its commands would do anything that dkms may (confine, CONFINE)", Tells)
	case cage.Network:
		c.add("confined", "", "yes, with the network (CONFINE=network)", Tells)
	case run.Namespaces() != nil:
		c.add("confined", "", "less than elsewhere: there are no namespaces", Tells)
	default:
		c.add("confined", "", "yes, without the network", Tells)
	}
}

// signed tells how the objects would be signed.
func (c *comparison) signed(ctx context.Context) {
	fw, err := c.framework(ctx, c.t.Kernel, io.Discard)
	if err != nil {
		c.against("signing", err)
		return
	}
	if reason := mok.Wanted(c.signingRequest(c.kernel(c.t), fw)); reason != nil {
		c.add("signing", "", "no: "+reason.Error(), Tells)
		return
	}
	s, err := c.KeyStatus(ctx, c.t.Kernel)
	switch {
	case errors.Is(s.Unusable, mok.ErrNone):
		c.add("signing", "", "a key would be made: "+s.Key, Tells)
	case s.Unusable != nil:
		c.add("signing", "", "no: "+s.Unusable.Error(), Tells)
	default:
		text := s.Key
		if s.Trusted.Why != "" {
			text += fmt.Sprintf(", trusted: %s, %s", s.Trusted.Answer, s.Trusted.Why)
		}
		fits := Tells
		if err != nil {
			fits = Misfits
		}
		c.add("signing", "", text, fits)
	}
}

// install tells where the objects would go, and what follows.
func (c *comparison) install() {
	job := c.installJob(c.key, c.t, c.m, io.Discard, io.Discard)
	job.Replace = c.facts.Results[c.key].Installed
	previews := job.Preview()
	q := initramfs.Question{Release: c.t.Kernel, Env: c.baseEnv(), ByConf: c.m.Initramfs}
	var refused []error
	for _, p := range previews {
		q.Objects = append(q.Objects, p.Name)
		text := p.To
		if len(p.There) > 0 {
			text += "; there is: " + strings.Join(p.There, ", ")
		}
		if p.Refused != nil && !c.would(plan.Build) { // else what is there isn't what would be compared
			refused = append(refused, p.Refused)
			c.add("object", "", p.Refused.Error(), Misfits)
			continue
		}
		c.add("object", "", text, Tells)
	}
	if len(refused) > 0 && len(refused) == len(previews) && c.o.Failure == nil {
		c.o.Failure = failf(InstallFailed, "%s can't be installed for kernel %s: %w", c.key.ID, c.t.Kernel, errors.Join(refused...)).hint("You may override by specifying --force.")
	}
	c.scripts("PRE_INSTALL", c.m.PreInstall, "POST_INSTALL", c.m.PostInstall)
	if c.weakOf(c.t.Kernel) != nil && !c.m.NoWeakModules {
		c.add("weak-modules", "", "would be told of the objects", Tells)
	}
	if c.NoDepmod {
		c.add("index", "", "left alone (--no-depmod)", Tells)
	} else {
		c.add("index", "", "modules.dep of "+c.Paths.KernelTree(c.t.Kernel)+" would be brought up to date", Tells)
	}
	c.image(q)
}

// image tells whether the initramfs would be made again.
func (c *comparison) image(q initramfs.Question) {
	image, there := initramfs.Find(c.Paths, c.t.Kernel)
	belong, err := initramfs.Belongs(c.Paths, q)
	switch {
	case !c.Framework.Initramfs:
		c.add("initramfs", "", "left alone (initramfs in framework.conf)", Tells)
	case !there:
		c.add("initramfs", "", "the kernel has none", Tells)
	case err != nil:
		c.add("initramfs", "", err.Error(), Tells)
	case len(belong) == 0:
		c.add("initramfs", "", "left alone: nothing asks for the objects in it", Tells)
	default:
		c.add("initramfs", "", image+" would be made again: "+belong[0].Object+" is "+belong[0].Why, Tells)
	}
}
