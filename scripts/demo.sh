#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The demonstration: a real module package of Debian's archive is added, built
# and installed for two stock kernels in a scratch root, and each installed
# object is checked to be for its kernel. The machine's own /usr/src,
# /var/lib/dkms and /lib/modules are not touched.
set -eu
here=$(cd "$(dirname -- "$0")" && pwd)
# shellcheck source=debs.sh
. "$here/debs.sh"
cd "$here/.."
export PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin

DEBS=${LAB:-$PWD/.lab}/debs
PACKAGE=acpi-call-dkms

n=0
step() { n=$((n + 1)); echo; echo "[$n/7] $*"; }
run() { echo "  \$ $*"; "$@" 2>&1 | sed 's/^/    /'; }

# check_object RELEASE FILE: FILE must say that it is for RELEASE.
check_object() {
  local vermagic
  vermagic=$(modinfo -F vermagic "$2")
  [ "${vermagic%% *}" = "$1" ] || die "WRONG: $2 has vermagic '$vermagic', not of $1"
  echo "  ok: vermagic '${vermagic%% *}' in ${2#"$root"}"
}

set -o pipefail

step "packages needed to build (compilers, kmod, ...)"
scripts/deps.sh demo
echo "  all installed"

step "build bin/dkms"
make --no-print-directory build | sed 's/^/    /'

step "fetch $PACKAGE and the headers of two Debian kernels"
ensure_lists
old=$(old_kernel)
new=$(new_kernel)
mapfile -t packages < <(header_packages "$old"; header_packages "$new")
fetch_debs "$DEBS" "$PACKAGE" "${packages[@]}"
echo "  kernels: $old and $new"

step "unpack into a scratch root"
root=$(mktemp -d "${TMPDIR:-/tmp}/dkms-demo.XXXXXX")
merged_root "$root"
for p in "$PACKAGE" "${packages[@]}"; do
  unpack "$root" "$DEBS/${p}"_*.deb
done
mkdir -p "$root/etc"
cp -L /etc/os-release "$root/etc/os-release"
source=$(echo "$root"/usr/src/*/dkms.conf)
source=$(basename "$(dirname "$source")")
module=${source%-*}
version=${source##*-}
echo "  $root has the source of $module, version $version"

step "add, build, install for both kernels"
dkms=(bin/dkms --root "$root")
run "${dkms[@]}" add -m "$module" -v "$version"
for k in "$old" "$new"; do
  run "${dkms[@]}" build -m "$module" -v "$version" -k "$k"
  run "${dkms[@]}" install -m "$module" -v "$version" -k "$k"
done

step "check the installed objects"
objects=()
for k in "$old" "$new"; do
  mapfile -t found < <(find "$root/usr/lib/modules/$k/updates" -name '*.ko*' 2>/dev/null)
  [ "${#found[@]}" -gt 0 ] || die "WRONG: no object installed for $k"
  for f in "${found[@]}"; do
    check_object "$k" "$f"
    objects+=("$f")
  done
done

step "the result"
run "${dkms[@]}" status
for f in "${objects[@]}"; do
  echo "  $f"
done
echo "  logs: $root/var/lib/dkms/$module/$version/RELEASE/ARCH/log/make.log"
echo
echo "demo: done; look around in $root, then remove it: rm -rf $root"
