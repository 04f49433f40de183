# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Functions to mount what commands in a root need; sourced by the other scripts.

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

# unmount_all DIR: unmounts what is mounted at and below DIR and DIR.layers,
# innermost first.
unmount_all() {
  local target
  while read -r target; do
    umount "$target" 2>/dev/null || umount -l "$target"
  done < <(awk -v d="$1" '$2 == d || $2 == d ".layers" || index($2, d "/") == 1 { print $2 }' /proc/mounts | tac)
}
