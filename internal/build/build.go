// SPDX-License-Identifier: Apache-2.0

// Package build turns the source of one module into objects for one kernel.
//
// A build is a list of stages (see Run). It works in the module's build
// directory, writes make.log there, and ends with a complete result prepared
// beside its place and renamed to it: <tree>/<m>/<v>/<k>/<a>. The tree holds
// the old result, or none, until then.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"dkms-go/internal/conf"
	"dkms-go/internal/host"
	"dkms-go/internal/jobserver"
	"dkms-go/internal/kernel"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
	"dkms-go/internal/verify"
)

// Job is one build.
type Job struct {
	Key    state.Key
	Tree   state.Tree
	Paths  host.Paths
	Conf   *conf.Module
	Kernel kernel.Kernel
	// Facts are what the conf's exclusions are checked against.
	Facts conf.Facts
	// Env is the environment of every command, the toolchain's variables and
	// the four that hooks rely on included; Vars are the further variables
	// that the text of MAKE may use.
	Env  []string
	Vars map[string]string
	// LLVM appends LLVM=1 to the make command.
	LLVM bool
	// Jobs is the argument of make's -j; "" leaves the number open. Unused
	// with a job server.
	Jobs   string
	Server *jobserver.Server
	// Verify is the kernel that the objects are held against; without one they
	// are not. Force keeps objects that would not load.
	Verify verify.Target
	Force  bool
	// Finish are the settings for the objects' last stages.
	Finish Finish
	// Inputs is what the caller knows of the inputs, for the record: Identity,
	// Source, Settings, WatchesImage and Compiler.
	Inputs state.Record
	// Depends are the versions of the dependencies to be recorded.
	Depends map[string]string
	// Keep, if not nil, is given the product of a build that succeeded.
	Keep func(Product)
	// Confine, if not nil, is what commands may do besides writing to the build
	// directory; Time is how long each may take, and Reserve how many bytes they
	// must leave free on the disk, 0 for no limit.
	Confine *run.Confinement
	Time    time.Duration
	Reserve int64
	// Verbose shows commands and their output.
	Verbose bool
	// OnStage, if not nil, is called when a stage begins.
	OnStage func(Stage)
	// Version names the program in make.log.
	Version string
	// RealUname, if not nil, is called once after a build whose commands saw
	// the uname of the running kernel, with the reason.
	RealUname func(error)
	Out       io.Writer
	Err       io.Writer
}

// Stage names the part of a build that failed.
type Stage string

// The stages that can fail.
const (
	Prepare   Stage = "prepare"
	PatchPath Stage = "patch path"
	Patch     Stage = "patch"
	PreBuild  Stage = "pre_build"
	Make      Stage = "make"
	Missing   Stage = "missing object"
	Collect   Stage = "collect"
	Verify    Stage = "verify"
	PostBuild Stage = "post_build"
)

// Failure is a build that failed.
type Failure struct {
	Stage Stage
	// Status is the exit status of the hook that failed.
	Status int
	Err    error
	// Log is where make.log is to be found.
	Log string
	// Text is the text of the log; nil if there is none.
	Text []byte
	// Replay is a line that runs the failed command again.
	Replay string
	// Refused are the things that the failed command wanted and that a confined
	// one may not do.
	Refused []Refusal
}

func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// The origins of results that Run and Restore leave.
const (
	Local  = "local"
	Cached = "cache"
)

// work is a build under way.
type work struct {
	Job
	dir    string         // where commands find the build directory
	inside *untrusted.Dir // the same, for reading what they left
	log    *logFile
	change *state.Change
	staged string
	begun  time.Time
	record state.Record
	origin string        // of the result, for the record
	files  []verify.File // finished objects
	used   run.Usage     // by all commands

	product Product
}

// stage is a named part of a build.
type stage struct {
	name Stage
	run  func(context.Context) error
}

// Run builds. Before: the module is added. After success: the result is in its
// place and the build directory gone. After a failure: no result, or the one
// that was there before (when only POST_BUILD failed the new one, as upstream
// has it); the build directory and its make.log stay. A copy of the log is
// kept in either case (state.Tree.KeptLog). All commands of the build see the
// uname of the kernel that it is for.
func (j Job) Run(ctx context.Context, room *Room) error {
	w := &work{Job: j, origin: Local}
	stages := append(w.making(), stage{Collect, w.gather}, stage{Collect, w.place}, stage{PostBuild, w.postBuild}, stage{PostBuild, w.settle})
	err := w.within(ctx, room, stages)
	if err == nil && w.Keep != nil {
		w.Keep(w.product)
	}
	return err
}

// making are the stages that lead to objects in the build directory.
func (w *work) making() []stage {
	return []stage{{Prepare, w.prepare}, {Patch, w.patch}, {PreBuild, w.preBuild}, {Make, w.make}, {Missing, w.check}}
}

// within goes through the stages of a build in its build directory.
func (w *work) within(ctx context.Context, room *Room, stages []stage) error {
	return room.with(w.Key, w.view(), func(dir string) error {
		w.dir, w.begun, w.record = dir, time.Now(), w.Inputs
		err := w.stages(ctx, stages)
		var f *Failure
		if room.several && w.log != nil && errors.As(err, &f) {
			f.Log = w.Tree.KeptLog(w.Key) // another build may take the directory
		}
		err = errors.Join(err, w.keepLog())
		err = errors.Join(err, w.leave(err))
		if w.inside != nil {
			w.inside.Close()
		}
		return err
	})
}

// view is how the machine looks to the commands of the build.
func (j Job) view() run.View { return run.View{Uname: j.Uname(), Unable: j.RealUname} }

// Uname is what commands are told of the kernel.
func (j Job) Uname() *run.Uname {
	version, compiler := j.Kernel.Banner()
	return &run.Uname{Release: j.Key.Kernel, Version: version, Compiler: compiler}
}

func (w *work) stages(ctx context.Context, stages []stage) error {
	defer func() {
		if w.change != nil {
			w.change.Abort()
		}
	}()
	for _, s := range stages {
		if w.OnStage != nil {
			w.OnStage(s.name)
		}
		if err := s.run(ctx); err != nil {
			var f *Failure
			if !errors.As(err, &f) {
				f = &Failure{Stage: s.name, Err: err, Log: w.logPath()}
			}
			w.explain(f)
			return f
		}
	}
	return nil
}

func (w *work) logPath() string { return filepath.Join(w.Tree.Build(w.Key.ID), "make.log") }

// hookScript runs PRE_BUILD or POST_BUILD.
func (w *work) hookScript(ctx context.Context, stage Stage, directive string) error {
	line, ok := w.hookLine(string(stage), directive)
	if !ok {
		return nil
	}
	release, err := w.acquire(ctx, w.scriptText(line, directive))
	if err != nil {
		return err
	}
	defer release()
	if err := w.command(ctx, "Running the "+string(stage)+" script", line); err != nil {
		fmt.Fprintf(w.Out, "Consult %s for more information.\n", w.logPath())
		return w.failed(ctx, stage, fmt.Sprintf("the %s script of %s failed for kernel %s", stage, w.Key.ID, w.Key.Kernel), line, err)
	}
	return nil
}

func (w *work) preBuild(ctx context.Context) error {
	return w.hookScript(ctx, PreBuild, w.Conf.PreBuild)
}

func (w *work) postBuild(ctx context.Context) error {
	return w.hookScript(ctx, PostBuild, w.Conf.PostBuild)
}

// settle puts what POST_BUILD added to the log into the result.
func (w *work) settle(context.Context) error {
	text, err := w.log.text()
	if err != nil {
		return err
	}
	return w.Tree.WriteLog(w.Key, text)
}

// keepLog keeps a copy of make.log for this kernel, also of a failed build.
func (w *work) keepLog() (err error) {
	if w.log == nil {
		return nil
	}
	w.product.Record = w.record
	if w.product.Log, err = w.log.text(); err != nil {
		return err
	}
	return errors.Join(w.log.settle(w.product.Log), w.Tree.KeepLog(w.Key, w.product.Log))
}

// shellVars returns assignments of the variables that MAKE may use.
func (w *work) shellVars() string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(w.Vars)) {
		text += name + "=" + quote(w.Vars[name]) + "\n"
	}
	return text
}
