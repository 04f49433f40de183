#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Throw-away roots over the lab.
#
#   scratch.sh make DIR          a Debian root with compilers and both kernels:
#                                chroot DIR COMMAND works in it
#   scratch.sh make --all DIR    the same with the cloud kernel, and with the
#                                images of all three
#   scratch.sh make --bare DIR   only the kernels' files: for dkms --root DIR
#   scratch.sh make --apt DIR    a Debian root without kernels, in which apt
#                                installs from its cache
#   scratch.sh make --over ROOT DIR
#                                what the frozen ROOT has
#   scratch.sh freeze ROOT       unmounts ROOT and keeps its files, for --over
#   scratch.sh drop DIR          unmounts and removes it
#
# DIR is an overlay: the lab's parts below, all changes in DIR.layers/upper,
# and the list of what is below in DIR.layers/lower. DIR must not exist or be
# empty. With 8 GiB of free memory changes are kept there: unpacking packages and
# removing roots is most of what disks do in tests. SCRATCH_DISK=yes wants the disk.
set -eu
here=$(cd "$(dirname -- "$0")" && pwd)
# shellcheck source=mounts.sh
. "$here/mounts.sh"
LAB=${LAB:-$(dirname "$here")/.lab}

die() { echo "scratch.sh: $*" >&2; exit 1; }

# roomy: whether there is memory to keep roots in.
roomy() {
  [ "${SCRATCH_DISK:-no}" != yes ] &&
    awk '$1 == "MemAvailable:" { exit !($2 >= 8 * 1024 * 1024) }' /proc/meminfo
}

# in_memory LAYERS: layers are in memory.
in_memory() {
  mount -t tmpfs -o mode=755 scratch "$1"
  mkdir -p "$1/upper" "$1/work"
}

# overlay DIR LOWER: mounts an overlay at DIR. Where the file system of DIR
# cannot be an upper layer (itself an overlay), memory is.
overlay() {
  local dir=$1 layers=$1.layers
  local args="lowerdir=$2,upperdir=$layers/upper,workdir=$layers/work"
  mkdir -p "$layers/upper" "$layers/work"
  if roomy; then in_memory "$layers"; fi
  if ! mount -t overlay -o "$args" overlay "$dir" 2>/dev/null; then
    in_memory "$layers"
    mount -t overlay -o "$args" overlay "$dir"
  fi
  echo "$2" >"$layers/lower"
}

# lower KIND [ROOT]: prints the layers below a new root.
lower() {
  local dir
  case $1 in
    bare) set -- root ;;
    full) set -- root base ;;
    all) set -- root verify base ;;
    apt) set -- apt ;;
    over)
      dir=$(scratch_root "$2") || exit
      [ ! -d "$dir/dev" ] || die "$2 is not frozen"
      echo "$dir.layers/upper:$(cat "$dir.layers/lower")"
      return
      ;;
  esac
  for dir in "$@"; do
    [ -d "$LAB/$dir" ] || die "no $LAB/$dir; run: make lab"
  done
  [ "$1" != root ] || [ ! -d "$LAB/warm" ] || printf '%s:' "$LAB/warm"
  printf '%s' "$LAB/$1"
  shift
  [ $# -eq 0 ] || printf ":$LAB/%s" "$@"
  echo
}

# make_scratch KIND DIR [ROOT]
make_scratch() {
  local dir below
  mkdir -p "$2"
  dir=$(realpath "$2")
  [ -z "$(ls -A "$dir")" ] || die "$dir is not empty"
  below=$(lower "$1" "${3:-}")
  overlay "$dir" "$below"
  if [ "$1" != bare ]; then
    devices "$dir"
    mkdir -p "$dir/var/lib" "$dir/etc"
  fi
}

# scratch_root DIR: prints the full path of a scratch root.
scratch_root() {
  local dir
  [ -d "$1" ] || die "no directory $1"
  dir=$(realpath "$1")
  [ -d "$dir.layers" ] || die "$dir is no scratch root"
  echo "$dir"
}

# A frozen root keeps its layers, so a tmpfs among them stays mounted.
freeze_scratch() {
  local dir
  dir=$(scratch_root "$1")
  umount -R "$dir"
}

drop_scratch() {
  local dir
  dir=$(scratch_root "$1")
  unmount_all "$dir"
  rm -rf --one-file-system "$dir" "$dir.layers"
}

case "${1:-} ${2:-} $#" in
  "make --bare 3") make_scratch bare "$3" ;;
  "make --all 3") make_scratch all "$3" ;;
  "make --apt 3") make_scratch apt "$3" ;;
  "make --over 4") make_scratch over "$4" "$3" ;;
  make\ *" 2") make_scratch full "$2" ;;
  freeze\ *" 2") freeze_scratch "$2" ;;
  drop\ *" 2") drop_scratch "$2" ;;
  *) die "usage: scratch.sh make [--all | --bare | --apt | --over ROOT] DIR | freeze ROOT | drop DIR" ;;
esac
