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
mkdir -p "$root/var/cache" "$root/dev/pts"
mount -t tmpfs -o size=64m,mode=755 cache "$root/var/cache"
mount -t sysfs sysfs "$root/sys"
# Devices that root could do harm with; no attack does more than open them.
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
chmod 700 "$root/root" "$root/home/user"
ln -sf pts/ptmx "$root/dev/ptmx"
[ -e "$root/dev/mem" ] || mknod -m 640 "$root/dev/mem" c 1 1
[ -e "$root/dev/kmsg" ] || mknod -m 644 "$root/dev/kmsg" c 1 11
[ -e "$root/dev/loop0" ] || mknod -m 660 "$root/dev/loop0" b 7 0
cd "$root"
pivot_root . .old
exec chroot . /bin/bash /hostile/play.sh "$case"
