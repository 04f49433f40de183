// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"dkms-go/internal/conf"
	"dkms-go/internal/copytree"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// optionsDigest returns the digest of what the administrator has changed about the build
// of a module: directives of the build that overrides or --directive have given another
// value, and what is laid over the source. It is "" for nothing: then any machine's
// build of the same source for the same kernel is the same.
func (e *Engine) optionsDigest(ctx context.Context, key state.Key, m *conf.Module) (string, error) {
	overlay := filepath.Join(e.Paths.ConfDir, key.Module)
	if _, err := os.Stat(overlay); errors.Is(err, fs.ErrNotExist) {
		overlay = ""
	}
	t := plan.Target{Kernel: key.Kernel, Arch: key.Arch}
	plain, err := e.plainConf(ctx, key.ID, t)
	if err != nil {
		return "", confFailure(err)
	}
	changed := map[string]conf.Array{}
	for _, vars := range []conf.Vars{m.Vars, plain.Vars} {
		for name := range vars {
			if ofBuild(name) && !reflect.DeepEqual(m.Vars[name], plain.Vars[name]) {
				changed[name] = m.Vars[name]
			}
		}
	}
	return digestOptions(changed, overlay)
}

// ofBuild reports whether a directive has a say in what a build makes.
func ofBuild(name string) bool {
	for _, prefix := range []string{"MAKE", "PATCH", "PRE_BUILD", "POST_BUILD", "BUILT_MODULE", "DEST_MODULE", "STRIP"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// plainConf reads a module's conf without what the administrator lays over it.
func (e *Engine) plainConf(ctx context.Context, id state.ID, t plan.Target) (*conf.Module, error) {
	bare := *e.loader(e.Err)
	bare.Paths.ConfDir = filepath.Join(e.tree.PrebuiltSource(id), "none") // nothing is ever there
	k := e.kernel(t)
	m, err := bare.Load(ctx, conf.Request{
		Module: id.Module, Version: id.Version, Kernel: t.Kernel, Arch: t.Arch, File: filepath.Join(e.tree.SourceLink(id), "dkms.conf"),
		KernelSourceDir: k.SourceDir, KernelConfig: k.ConfigFile, Distro: e.distro.ID, Policy: conf.Auto,
		Vars: map[string]string{"parallel_jobs": e.Jobs, "tmp_location": e.Framework.TmpLocation},
	})
	return m, strict(m, err)
}

// digestOptions digests directives and a directory, "" for none of both.
func digestOptions(directives map[string]conf.Array, overlay string) (string, error) {
	if len(directives) == 0 && overlay == "" {
		return "", nil
	}
	over := ""
	if overlay != "" {
		var err error
		if over, err = copytree.Digest(overlay); err != nil {
			return "", fail(NotWritable, err)
		}
	}
	text, err := json.Marshal(struct {
		Directives map[string]conf.Array
		Overlay    string
	}{directives, over})
	if err != nil {
		return "", fail(Internal, err)
	}
	return digestOf(text), nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
