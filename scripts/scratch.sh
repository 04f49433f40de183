#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Throw-away roots over the lab.
#
#   scratch.sh make DIR          a Debian root with compilers and both kernels:
#                                chroot DIR COMMAND works in it
#   scratch.sh make --bare DIR   only the kernels' files: for dkms --root DIR
#   scratch.sh drop DIR          unmounts and removes it
#
# DIR is an overlay: the lab's parts below, all changes in DIR.layers/upper.
# DIR must not exist or be empty.
set -eu
here=$(cd "$(dirname -- "$0")" && pwd)
LAB=${LAB:-$(dirname "$here")/.lab}

die() { echo "scratch.sh: $*" >&2; exit 1; }

# overlay DIR LOWER: mounts an overlay at DIR. Where the file system of DIR
# cannot be an upper layer (itself an overlay), a tmpfs is.
overlay() {
  local dir=$1 layers=$1.layers
  local args="lowerdir=$2,upperdir=$layers/upper,workdir=$layers/work"
  mkdir -p "$layers/upper" "$layers/work"
  mount -t overlay -o "$args" overlay "$dir" 2>/dev/null && return
  mount -t tmpfs -o mode=755 scratch "$layers"
  mkdir -p "$layers/upper" "$layers/work"
  mount -t overlay -o "$args" overlay "$dir"
}

# devices DIR: /proc, /sys (read-only) and a /dev of harmless nodes.
devices() {
  local dir=$1
  mount -t proc proc "$dir/proc"
  mount -t sysfs -o ro sysfs "$dir/sys"
  mount -t tmpfs -o mode=755 scratch "$dir/dev"
  mknod -m 666 "$dir/dev/null" c 1 3
  mknod -m 666 "$dir/dev/zero" c 1 5
  mknod -m 666 "$dir/dev/full" c 1 7
  mknod -m 666 "$dir/dev/random" c 1 8
  mknod -m 666 "$dir/dev/urandom" c 1 9
  mknod -m 666 "$dir/dev/tty" c 5 0
  mkdir -m 1777 "$dir/dev/shm"
  ln -s /proc/self/fd "$dir/dev/fd"
  ln -s /proc/self/fd/0 "$dir/dev/stdin"
  ln -s /proc/self/fd/1 "$dir/dev/stdout"
  ln -s /proc/self/fd/2 "$dir/dev/stderr"
}

make_scratch() {
  local bare=$1 dir lower=$LAB/root
  mkdir -p "$2"
  dir=$(realpath "$2")
  [ -d "$LAB/root" ] || die "no $LAB/root; run: make lab"
  [ -z "$(ls -A "$dir")" ] || die "$dir is not empty"
  if [ "$bare" = no ]; then
    [ -d "$LAB/base" ] || die "no $LAB/base; run: make lab"
    lower=$LAB/root:$LAB/base
  fi
  overlay "$dir" "$lower"
  if [ "$bare" = no ]; then
    devices "$dir"
    mkdir -p "$dir/var/lib" "$dir/etc"
  fi
}

drop_scratch() {
  local dir target
  [ -d "$1" ] || die "no directory $1"
  dir=$(realpath "$1")
  [ -d "$dir.layers" ] || die "$dir is no scratch root"
  # Mount points at and below DIR and DIR.layers, innermost first.
  while read -r target; do
    umount "$target" 2>/dev/null || umount -l "$target"
  done < <(awk -v d="$dir" '$2 == d || $2 == d ".layers" || index($2, d "/") == 1 { print $2 }' /proc/mounts | tac)
  rm -rf --one-file-system "$dir" "$dir.layers"
}

case "${1:-} ${2:-} $#" in
  "make --bare 3") make_scratch yes "$3" ;;
  make\ *" 2") make_scratch no "$2" ;;
  drop\ *" 2") drop_scratch "$2" ;;
  *) die "usage: scratch.sh make [--bare] DIR | drop DIR" ;;
esac
