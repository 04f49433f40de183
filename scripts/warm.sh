#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Keeps the module index's facts of the lab's stock kernel for the scratch roots,
# .lab/warm is a layer of each: reading thousands of objects would be most of
# what many tests do. Made anew when the code that reads them has changed; a layer
# that doesn't fit is the same as none.
set -eu
here=$(cd "$(dirname -- "$0")" && pwd)
LAB=${LAB:-$(dirname "$here")/.lab}

if [ -d "$LAB/warm" ] && [ -z "$(find "$here/../internal/modindex" "$here/../internal/ko" -name '*.go' -newer "$LAB/warm")" ]; then
  exit 0
fi
rm -rf "$LAB/warm" "$LAB/warm.part"
root=$LAB/warm.root
trap '"$here/scratch.sh" drop "$root"' EXIT
"$here/scratch.sh" make "$root"
kernel=$(sed -n 's/^new //p' "$LAB/kernels")
install -m 755 "$here/../bin/dkms" "$root/usr/sbin/dkms"
mkdir -p "$root/var/lib/dkms/.index-due"
: >"$root/var/lib/dkms/.index-due/$kernel"
chroot "$root" dkms autoinstall -k "$kernel" >/dev/null
mkdir -p "$LAB/warm.part/var/cache/dkms"
cp -a "$root/var/cache/dkms/index" "$LAB/warm.part/var/cache/dkms/index"
mv -T "$LAB/warm.part" "$LAB/warm"
