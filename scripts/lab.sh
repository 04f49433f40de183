#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Fills the lab: real kernels' headers, real module packages, the dkms package
# of the distribution and a base system to make throw-away roots from.
#
#   lab.sh              everything that is not there yet
#   lab.sh root|corpus|oracle|base|verify
#   lab.sh clean        removes the lab
#
# Each part is made under a temporary name and renamed when complete, so an
# interrupted run leaves no half part behind.
#
#   .lab/kernels        the kernel releases, one a line: "old RELEASE", "new RELEASE"
#   .lab/root           headers of both kernels, image and modules.dep of the new one
#   .lab/corpus/PKG     unpacked module packages
#   .lab/verify         images of the old kernel and of its cloud flavour, headers of
#                       the latter and of the release before; their names in "kernels"
#   .lab/dkms-VERSION   the distribution's dkms package, unpacked
#   .lab/base           a minimal Debian with compilers, lower layer of scratch.sh
set -eu
here=$(cd "$(dirname -- "$0")" && pwd)
# shellcheck source=debs.sh
. "$here/debs.sh"

LAB=${LAB:-$(dirname "$here")/.lab}
DEBS=$LAB/debs

corpus=(
  acpi-call-dkms adv-17v35x-dkms apfs-dkms ddcci-dkms digimend-dkms
  dm-writeboost-dkms dpdk-kmods-dkms evdi-dkms falcosecurity-scap-dkms
  gost-crypto-dkms jool-dkms librem-ec-acpi-dkms lttng-modules-dkms
  openvpn-dco-dkms rtpengine-kernel-dkms tp-smapi-dkms vpoll-dkms
  xtables-addons-dkms
)

base_packages=(
  bash ca-certificates cpio diffutils gcc gcc-12 gzip kmod libc6-dev make
  openssl patch perl pahole procps xz-utils zstd
)

# begin NAME: prints a fresh temporary directory that becomes $LAB/NAME.
begin() {
  rm -rf --one-file-system "$LAB/$1.part"
  mkdir -p "$LAB/$1.part"
  echo "$LAB/$1.part"
}

finish() { mv -T "$LAB/$1.part" "$LAB/$1"; }

make_kernels() {
  [ -s "$LAB/kernels" ] && return
  mkdir -p "$LAB"
  ensure_lists
  local old new
  old=$(old_kernel)
  new=$(new_kernel)
  printf 'old %s\nnew %s\n' "$old" "$new" >"$LAB/kernels.part"
  finish kernels
}

kernel() { sed -n "s/^$1 //p" "$LAB/kernels"; }

make_root() {
  [ -d "$LAB/root" ] && return
  make_kernels
  local dir old new p packages
  old=$(kernel old)
  new=$(kernel new)
  say "root: headers of $old and $new, modules of $new"
  mapfile -t packages < <(header_packages "$old"; header_packages "$new")
  packages+=("linux-image-$new" base-files)
  fetch_debs "$DEBS" "${packages[@]}"
  dir=$(begin root)
  merged_root "$dir"
  for p in "${packages[@]}"; do
    [ "$p" = base-files ] || unpack "$dir" "$DEBS/${p}"_*.deb
  done
  dpkg --fsys-tarfile "$DEBS"/base-files_*.deb |
    tar -x -C "$dir" ./etc/os-release ./usr/lib/os-release ./etc/debian_version
  rm -rf "$dir/usr/share/doc" "$dir/usr/share/bug" "$dir/usr/share/lintian"
  depmod -b "$dir" "$new"
  finish root
}

make_corpus() {
  local p dir missing=()
  for p in "${corpus[@]}"; do
    [ -d "$LAB/corpus/$p" ] || missing+=("$p")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  ensure_lists
  say "corpus: ${#missing[@]} module packages"
  mkdir -p "$LAB/corpus"
  fetch_debs "$DEBS" "${missing[@]}"
  for p in "${missing[@]}"; do
    dir=$(begin "corpus/$p")
    dpkg -x "$DEBS/${p}"_*.deb "$dir"
    finish "corpus/$p"
  done
}

# previous_kernel RELEASE: prints the release before RELEASE, of the same flavour.
previous_kernel() {
  local flavour=${1#*-*-}
  { apt-cache pkgnames linux-headers- | sed 's/^linux-headers-//' |
    grep -E "^[0-9.]+-[0-9]+-$flavour\$"; echo "$1"; } | sort -uV | grep -Fx -B 1 -- "$1" | head -n 1
}

# make_verify: of the amd64 image only what tells of the kernel is kept, and some
# of its objects; of the cloud image all.
make_verify() {
  [ -d "$LAB/verify" ] && return
  make_root
  ensure_lists
  local dir old previous cloud packages
  old=$(kernel old)
  previous=$(previous_kernel "$old")
  cloud=${old%-amd64}-cloud-amd64
  [ "$previous" != "$old" ] || die "verify: the archive has no release before $old"
  say "verify: headers of $previous and $cloud, images of $old and $cloud"
  mapfile -t packages < <(header_packages "$previous"; header_packages "$cloud")
  fetch_debs "$DEBS" "${packages[@]}" "linux-image-$old" "linux-image-$cloud"
  dir=$(begin verify)
  merged_root "$dir"
  local p
  for p in "${packages[@]}" "linux-image-$cloud"; do
    unpack "$dir" "$DEBS/${p}"_*.deb
  done
  dpkg --fsys-tarfile "$DEBS/linux-image-${old}"_*.deb |
    tar -x -C "$dir" --keep-directory-symlink --wildcards ./boot "./lib/modules/$old/modules.*" "./lib/modules/$old/kernel/arch" "./lib/modules/$old/kernel/drivers/md"
  rm -rf "${dir:?}/usr/share"
  depmod -b "$dir" "$cloud"
  printf 'previous %s\nold %s\ncloud %s\n' "$previous" "$old" "$cloud" >"$dir/kernels"
  finish verify
}

make_oracle() {
  compgen -G "$LAB/dkms-*[0-9]" >/dev/null && return
  ensure_lists
  local deb version dir
  fetch_debs "$DEBS" dkms
  deb=$(echo "$DEBS"/dkms_*.deb)
  version=$(dpkg-deb -f "$deb" Version)
  version=${version%%-*}
  say "oracle: dkms $version"
  dir=$(begin "dkms-$version")
  dpkg -x "$deb" "$dir"
  dpkg -e "$deb" "$dir/DEBIAN"
  finish "dkms-$version"
}

# debian_mirror: prints "CODENAME URI KEYRING" of the machine's main archive.
debian_mirror() {
  # shellcheck disable=SC2016 # apt's own placeholders
  apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk '$1 == "Debian" && $2 !~ /-/ && $3 == "main" { print $2, $4; exit }'
}

# copy_apt DIR: the root DIR uses the Debian archives and proxies of the machine.
copy_apt() {
  local dir=$1
  rm -rf "$dir"/etc/apt/sources.list "$dir"/etc/apt/sources.list.d/*
  # shellcheck disable=SC2016 # apt's own placeholders
  apt-get indextargets --format '$(ORIGIN) deb $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
    sed -n 's/^Debian //p' >"$dir/etc/apt/sources.list"
  apt-config dump | grep -E '^Acquire::(https?::|Check-|Retries)' >"$dir/etc/apt/apt.conf.d/90lab" || true
}

make_base() {
  [ -d "$LAB/base" ] && return
  ensure_lists
  local dir log suite mirror proxy
  read -r suite mirror < <(debian_mirror) || die "base: apt knows no Debian archive"
  say "base: minimal $suite with compilers (takes a minute or two)"
  proxy=$(apt-config dump Acquire::http::Proxy --format '%v%n')
  [ -z "$proxy" ] || export http_proxy=$proxy
  dir=$(begin base)
  log=$LAB/debootstrap.log
  local include
  include=$(IFS=,; echo "${base_packages[*]}")
  if ! debootstrap --variant=minbase --include="$include" "$suite" "$dir" "$mirror" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "base: debootstrap ended with an error; its log is $log"
  fi
  copy_apt "$dir"
  rm -rf "$dir"/var/cache/apt/* "$dir"/var/lib/apt/lists/* "$dir"/usr/share/doc "$dir"/usr/share/locale
  finish base
}

case ${1:-all} in
  all) make_root; make_corpus; make_oracle; make_base; make_verify ;;
  root) make_root ;;
  corpus) make_corpus ;;
  oracle) make_oracle ;;
  base) make_base ;;
  verify) make_verify ;;
  clean)
    if awk -v lab="$LAB/" '{ if (index($2, lab) == 1 || index($4, "=" lab)) found = 1 } END { exit !found }' /proc/mounts; then
      die "clean: something of $LAB is mounted; drop the scratch roots first"
    fi
    rm -rf --one-file-system "$LAB"
    ;;
  *) die "usage: lab.sh [root|corpus|oracle|base|verify|clean]" ;;
esac
