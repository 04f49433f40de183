# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Functions to fetch and unpack Debian packages; sourced by the other scripts.

say() { echo "${0##*/}: $*" >&2; }
die() { say "$*"; exit 1; }

# ensure_lists: the machine's apt knows its archives.
ensure_lists() {
  apt-cache show --no-all-versions linux-headers-amd64 >/dev/null 2>&1 || apt-get -q update >/dev/null
}

# has_package NAME: apt has a candidate for NAME.
has_package() { apt-cache show --no-all-versions "$1" >/dev/null 2>&1; }

# pick_kernel PINNED PATTERN: prints PINNED when the archive has its headers,
# else the newest release whose headers package matches the extended regular
# expression PATTERN.
pick_kernel() {
  local newest
  if has_package "linux-headers-$1"; then
    echo "$1"
    return
  fi
  newest=$(apt-cache pkgnames linux-headers- | sed 's/^linux-headers-//' |
    grep -E "^$2\$" | sort -V | tail -n 1)
  [ -n "$newest" ] || die "the archive has no headers of $1 nor of $2"
  say "the archive no longer has $1; taking $newest"
  echo "$newest"
}

# old_kernel, new_kernel: the two kernel releases of the lab.
old_kernel() { pick_kernel "${KERNEL_OLD:-6.1.0-56-amd64}" '6\.1\.0-[0-9]+-amd64'; }
new_kernel() { pick_kernel "${KERNEL_NEW:-6.12.117+deb12-amd64}" '6\.12\.[0-9]+\+deb12-amd64'; }

# earlier_kernel RELEASE PATTERN: prints the newest release before RELEASE whose
# headers package matches the extended regular expression PATTERN.
earlier_kernel() {
  local found
  found=$(apt-cache pkgnames linux-headers- | sed 's/^linux-headers-//' |
    grep -E "^$2\$" | grep -Fxv -- "$1" | sort -V | tail -n 1)
  [ -n "$found" ] || die "the archive has no headers of $2 besides $1"
  echo "$found"
}

# header_packages RELEASE: the headers package and those of its dependencies
# that are kernel packages with files (not the image, not the compilers).
header_packages() {
  echo "linux-headers-$1"
  apt-cache depends --no-recommends --no-suggests "linux-headers-$1" |
    sed -n 's/^ *|\{0,1\}Depends: //p' | grep -E '^linux-(headers|kbuild)-' | sort -u
}

# download PACKAGE...: into the current directory; with fresh lists when the
# archive has moved on since they were read.
download() {
  local get=(apt-get -qq -o APT::Sandbox::User=root)
  "${get[@]}" download "$@" 2>/dev/null && return
  "${get[@]}" update >/dev/null
  "${get[@]}" download "$@"
}

# fetch_debs DIR PACKAGE...: downloads the packages into DIR, one call for all;
# packages already there (any version) are not fetched again.
fetch_debs() {
  local dir=$1 p need=()
  shift
  for p in "$@"; do
    compgen -G "$dir/${p}_*.deb" >/dev/null || need+=("$p")
  done
  [ "${#need[@]}" -gt 0 ] || return 0
  rm -rf "$dir/part"
  mkdir -p "$dir/part"
  (cd "$dir/part" && download "${need[@]}") || die "cannot fetch ${need[*]}"
  mv "$dir/part"/*.deb "$dir"
}

# unpack DIR DEB...: unpacks the files of packages into DIR; a symlink in DIR
# that stands for a directory (a merged /usr) is followed.
unpack() {
  local dir=$1 deb
  shift
  for deb in "$@"; do
    dpkg --fsys-tarfile "$deb" | tar -x -C "$dir" --keep-directory-symlink
  done
}

# merged_root DIR: makes DIR an empty root with a merged /usr.
merged_root() {
  local d
  mkdir -p "$1"
  for d in bin sbin lib lib64; do
    mkdir -p "$1/usr/$d"
    ln -sfn "usr/$d" "$1/$d"
  done
}
