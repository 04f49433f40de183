// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// bashProtocol defines the function _dkms_file, which evaluates one conf in
// the way described at evaluation. Its own names start with _dkms_.
const bashProtocol = `
_dkms_read() {
  if [[ -r $1 ]]; then . "$1"; else . <(builtin printf %s "$_dkms_conf"); fi >/dev/null
  for _dkms_name in "${_dkms_names[@]}"; do
    declare -n _dkms_ref=$_dkms_name
    for _dkms_i in "${!_dkms_ref[@]}"; do
      builtin echo $_dkms_name[$_dkms_i]=\"${_dkms_ref[$_dkms_i]%"$_dkms_cr"}\"
    done
    unset -n _dkms_ref
  done
}
_dkms_file() {
  _dkms_text=$(_dkms_read "$1" "${_dkms_names[*]}")
  eval "$_dkms_text" >/dev/null
}
`

// bashDump prints name, index and value of every element, each ended by NUL,
// and "end".
const bashDump = `
for _dkms_name in "${_dkms_names[@]}"; do
  declare -n _dkms_ref=$_dkms_name
  for _dkms_i in "${!_dkms_ref[@]}"; do
    builtin printf '%s\0%s\0%s\0' "$_dkms_name" "$_dkms_i" "${_dkms_ref[$_dkms_i]}"
  done
  unset -n _dkms_ref
done
builtin printf 'end'
`

// evaluateBash runs e in real bash.
func (l *Loader) evaluateBash(ctx context.Context, e *evaluation) (*outcome, error) {
	stdout, err := l.bash(e)(ctx, e.program(e.bashScript(), e.texts()))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	body, ended := bytes.CutSuffix(stdout, []byte("end"))
	if !ended && err != nil {
		return nil, fmt.Errorf("run bash: %w", err)
	}
	if !ended {
		return nil, errors.New("run bash: it stopped before the end of the conf")
	}
	return parseDump(body)
}

// program returns one for real bash that is about e.
func (e *evaluation) program(script, input string) Program {
	b := Program{Script: script, Input: input, Env: e.env, Dir: e.dir}
	for _, f := range e.files {
		b.Confs = append(b.Confs, f.path)
	}
	return b
}

// texts returns those of all files, each ended by NUL: bash may be confined to where
// it can't read the files themselves.
func (e *evaluation) texts() string {
	var b strings.Builder
	for _, f := range e.files {
		b.WriteString(strings.ReplaceAll(f.text, "\x00", "") + "\x00")
	}
	return b.String()
}

// bashScript returns the program for real bash that evaluates e, with its texts on
// the standard input.
func (e *evaluation) bashScript() string {
	var b strings.Builder
	b.WriteString("builtin mapfile -d '' -t _dkms_confs\nexec </dev/null\n")
	b.WriteString("shopt -s extglob\n_dkms_cr=$'\\r'\n")
	b.WriteString("_dkms_names=(" + strings.Join(e.names, " ") + ")\n")
	b.WriteString("unset -v \"${_dkms_names[@]}\"\n")
	for _, name := range sortedNames(e.shell) {
		if isName(name) {
			b.WriteString(name + "=" + quote(e.shell[name]) + "\n")
		}
	}
	for _, name := range sortedNames(e.values) {
		for _, i := range e.values[name].Sorted() {
			b.WriteString(name + "[" + strconv.Itoa(i) + "]=" + quote(e.values[name][i]) + "\n")
		}
	}
	b.WriteString(bashProtocol)
	for i, f := range e.files {
		b.WriteString("_dkms_conf=${_dkms_confs[" + strconv.Itoa(i) + "]}\n_dkms_file " + quote(f.path) + "\n")
		for _, a := range e.forced {
			b.WriteString(a.name + "[0]=" + quote(a.value) + "\n")
		}
	}
	b.WriteString(bashDump)
	return b.String()
}

// parseDump reads what bashDump prints.
func parseDump(data []byte) (*outcome, error) {
	out := &outcome{vars: Vars{}}
	if len(data) == 0 {
		return out, nil
	}
	fields := strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
	if len(fields)%3 != 0 {
		return nil, errors.New("run bash: it printed no whole variables")
	}
	for i := 0; i < len(fields); i += 3 {
		index, err := strconv.Atoi(fields[i+1])
		if err != nil {
			return nil, fmt.Errorf("run bash: index %q of %s is no number", fields[i+1], fields[i])
		}
		out.vars.set(fields[i], index, fields[i+2])
	}
	return out, nil
}
