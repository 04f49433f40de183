#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# world.sh ROOT CASE: plays one case in ROOT, in namespaces that the caller has
# made. They bound what an attack that works can do: at most 1000 processes, a
# DKMS tree of 300 MiB, a network of its own, and all of it gone at the end.
set -eu
root=$1 case=$2
mount --make-rprivate /
mount -t proc proc "$root/proc"
echo 1000 >"$root/proc/sys/kernel/pid_max"
mkdir -p "$root/var/lib/dkms" "$root/.old"
mount -t tmpfs -o size=300m,mode=755 dkms "$root/var/lib/dkms"
mount -t tmpfs -o size=64m,mode=755 run "$root/run"
mount -t tmpfs -o size=300m,mode=1777 tmp "$root/tmp"
cd "$root"
pivot_root . .old
exec chroot . /bin/bash /hostile/play.sh "$case"
