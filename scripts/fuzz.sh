#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the fuzz tests, one after another, each for FUZZTIME (30s), and shows what
# came of it. FUZZ is a regular expression of the tests to run, FUZZJOBS the number
# of processes that each may use (1). FUZZLOG names a file to which a line for each
# test is added: date, test, seconds, executions, new inputs, crashes.
# An input that fails is kept below the package's testdata/fuzz; docs/fuzzing.md
# says what to do with it. Ends with 1 if there was one.
set -eu
cd "$(dirname -- "$0")/.."
time=${FUZZTIME:-30s}
jobs=${FUZZJOBS:-1}
export GOMAXPROCS=${GOMAXPROCS:-$((jobs + 1))}

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

mapfile -t packages < <(grep -roE --include='*_test.go' '^func Fuzz\w+' internal cmd |
  while IFS=: read -r file func; do
    [[ ${func#func } =~ ${FUZZ:-.} ]] && dirname "./$file"
  done | sort -u)
[ "${#packages[@]}" -gt 0 ] || { echo "fuzz: no fuzz test matches \"${FUZZ:-}\"" >&2; exit 1; }

# Output of go test -list: the names of one package, then its line.
go test -list '^Fuzz' "${packages[@]}" >"$tmp/list"
targets=()
names=()
while read -r first second _; do
  case $first in
  Fuzz*) names+=("$first") ;;
  ok)
    for name in "${names[@]}"; do
      [[ $name =~ ${FUZZ:-.} ]] && targets+=("${second#*/} $name")
    done
    names=()
    ;;
  esac
done <"$tmp/list"

# run tests one target and adds its line to the table.
run() {
  local package=$1 name=$2 seconds execs fresh crashes=0
  echo "== $package $name"
  if ! go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 100x -parallel "$jobs" "./$package" >"$tmp/out" 2>&1; then
    crashes=$(grep -c 'Failing input written to' "$tmp/out" || true)
    # Without an input a seed fails, or it could not be built; that the time is over
    # is reported as an error now and then.
    [ "$crashes" -gt 0 ] || grep -q '^ *context deadline exceeded' "$tmp/out" || crashes=1
    [ "$crashes" -eq 0 ] || cat "$tmp/out"
  fi
  seconds=$(sed -n 's/^fuzz: elapsed: \([0-9hms]*\), execs.*/\1/p' "$tmp/out" | tail -n 1 | sed 's/h/*3600+/; s/m/*60+/; s/s//; s/+$//')
  execs=$(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$tmp/out" | tail -n 1)
  fresh=$(sed -n 's/.*new interesting: \([0-9]*\).*/\1/p' "$tmp/out" | tail -n 1)
  printf '%s\t%s %s\t%d\t%d\t%d\t%d\n' "$(date -u +%FT%TZ)" "$package" "$name" $((${seconds:-0})) "${execs:-0}" "${fresh:-0}" "$crashes" | tee -a "${FUZZLOG:-/dev/null}" >>"$tmp/table"
}

for target in "${targets[@]}"; do
  # shellcheck disable=SC2086 # two words
  run $target
done

awk -F '\t' '
  BEGIN { printf "\n%-40s %8s %12s %9s %6s %8s\n", "test", "seconds", "executions", "per s", "new", "crashes" }
  function row(name, s, n, new, bad) { printf "%-40s %8d %12d %9.0f %6d %8d\n", name, s, n, s ? n / s : n, new, bad }
  { row($2, $3, $4, $5, $6); s += $3; n += $4; new += $5; bad += $6 }
  END { row("all", s, n, new, bad); exit bad > 0 }' "$tmp/table"
