#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that the build, the lab and the tests need, or
# with the argument "demo" only those of the demonstration. Does nothing, and
# needs no network, when all are installed.
set -eu

packages=(
  make gcc gcc-12 libc6-dev libelf1 pahole patch kmod binutils bash xz-utils zstd ca-certificates mount
)
if [ "${1:-all}" != demo ]; then
  packages+=(
    perl gzip cpio openssl busybox-static bzip2 lz4 qemu-system-x86 ovmf debootstrap dpkg-dev scdoc shellcheck git util-linux strace patchelf rpm lintian rpmlint
    softhsm2 chromium fonts-dejavu-core libengine-pkcs11-openssl mokutil nginx-light docker-registry
  )
fi

missing=()
for p in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$p")
done

if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "deps: not root; as root run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  echo "deps: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  install=(apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}")
  if ! { apt-get -q update && "${install[@]}"; } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
  fi
  rm -f "$log"
fi

PATH=$PATH:/usr/local/go/bin
command -v go >/dev/null || { echo "deps: no go in PATH nor in /usr/local/go/bin" >&2; exit 1; }
