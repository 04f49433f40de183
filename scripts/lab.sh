#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Fills the lab: real kernels' headers, real module packages, the dkms package
# of the distribution and a base system to make throw-away roots from.
#
#   lab.sh              everything that is not there yet
#   lab.sh root|corpus|oracle|base|apt|verify|rt|boot|trixie
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
#   .lab/rt             headers of the old kernel with PREEMPT_RT; its name in "kernel"
#   .lab/dkms-VERSION   the distribution's dkms package, unpacked
#   .lab/base           a minimal Debian with compilers, lower layer of scratch.sh
#   .lab/apt            base, its lists of packages, and a cache from which apt
#                       installs kernels, dkms and the corpus without a network
#   .lab/apt-kernels    the kernels of that cache: "prev|cur|cloud|new RELEASE"
#   .lab/boot           the tools of GRUB and systemd-boot, unpacked
#   .lab/trixie         depmod and make of Debian 13, in bin, with their libraries
set -eu
here=$(cd "$(dirname -- "$0")" && pwd)
# shellcheck source=debs.sh
. "$here/debs.sh"
# shellcheck source=mounts.sh
. "$here/mounts.sh"

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

# What the package manager's kernels, module packages and dkms want to have.
apt_packages=(
  busybox dpkg-dev initramfs-tools linux-base lsb-release zstd
)

# Besides kernels, dkms and the corpus, ready to be installed.
apt_cached=(dracut grub2-common rpm systemd)

# What base_packages lack for grub-mkconfig, bootctl and kernel-install.
boot_packages=(
  grub-common grub2-common libdevmapper1.02.1
  systemd-boot systemd-boot-efi systemd libsystemd-shared libip4tc2
)

# depmod and make, and their libraries.
trixie_packages=(kmod make libc6 libkmod2 liblzma5 libssl3t64 libzstd1 zlib1g)

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

make_rt() {
  [ -d "$LAB/rt" ] && return
  make_kernels
  ensure_lists
  local dir rt packages p
  rt=$(kernel old)
  rt=$(pick_kernel "${rt%-amd64}-rt-amd64" '6\.1\.0-[0-9]+-rt-amd64')
  say "rt: headers of $rt"
  mapfile -t packages < <(header_packages "$rt")
  fetch_debs "$DEBS" "${packages[@]}"
  dir=$(begin rt)
  merged_root "$dir"
  for p in "${packages[@]}"; do
    unpack "$dir" "$DEBS/${p}"_*.deb
  done
  rm -rf "${dir:?}/usr/share"
  echo "$rt" >"$dir/kernel"
  finish rt
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

# apt_kernels: prints the kernels of the apt roots.
apt_kernels() {
  local cur
  cur=$(old_kernel)
  echo "prev $(earlier_kernel "$cur" '6\.1\.0-[0-9]+-amd64')"
  echo "cur $cur"
  echo "cloud $(pick_kernel "${cur%-amd64}-cloud-amd64" '6\.1\.0-[0-9]+-cloud-amd64')"
  echo "new $(new_kernel)"
}

# apt_in DIR ARGUMENT...: runs apt-get in the root DIR.
apt_in() {
  local dir=$1
  shift
  DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$dir" apt-get -q -y -o Dpkg::Use-Pty=0 "$@" </dev/null >>"$LAB/apt.log" 2>&1 ||
    { tail -n 20 "$LAB/apt.log" >&2; die "apt: apt-get ended with an error; its log is $LAB/apt.log"; }
}

# fill_apt DIR KERNELS: turns the copy DIR of base into the root that apt
# works in, and fills its cache.
fill_apt() {
  local dir=$1 kernels=() p
  printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d"
  chmod 755 "$dir/usr/sbin/policy-rc.d"
  echo force-unsafe-io >"$dir/etc/dpkg/dpkg.cfg.d/lab"
  echo 'APT::Install-Recommends "false";' >"$dir/etc/apt/apt.conf.d/91lab"
  apt_in "$dir" update
  apt_in "$dir" upgrade
  apt_in "$dir" install "${apt_packages[@]}"
  echo COMPRESSLEVEL=1 >"$dir/etc/initramfs-tools/conf.d/lab"
  while read -r _ p; do
    kernels+=("linux-image-$p" "linux-headers-$p")
  done <<<"$2"
  apt_in "$dir" install --download-only "${kernels[@]}" dkms "${corpus[@]}"
  for p in "${apt_cached[@]}"; do
    apt_in "$dir" install --download-only "$p"
  done
  trim_lists "$dir"
  rm -rf "$dir"/usr/share/doc "$dir"/usr/share/locale "$dir"/var/cache/apt/*.bin
}

# trim_lists DIR: leaves in the lists of the root DIR only packages that are installed
# or in its cache, and those whose names tests ask for: apt reads all of them with
# each command, and those of all of Debian take it seconds.
trim_lists() {
  local dir=$1 names file
  names=$(
    # shellcheck disable=SC2016 # dpkg's own placeholder
    chroot "$dir" dpkg-query -W -f '${Package}\n'
    cd "$dir/var/cache/apt/archives" && printf '%s\n' *.deb | sed 's/_.*//'
  )
  rm -f "$dir"/var/lib/apt/lists/*_i18n_*
  for file in "$dir"/var/lib/apt/lists/*_Packages; do
    awk -v names="$names" 'BEGIN { RS = ""; ORS = "\n\n"; FS = "\n"; n = split(names, list, "\n"); for (i = 1; i <= n; i++) known[list[i]] }
      { name = substr($1, 10) } name in known || name ~ /^(linux-|clang|gcc|lld|llvm|mokutil|dwarves)|-dkms$/' "$file" >"$file.new"
    mv "$file.new" "$file"
  done
}

make_apt() {
  [ -d "$LAB/apt" ] && return
  make_base
  ensure_lists
  local dir kernels
  kernels=$(apt_kernels)
  say "apt: a Debian whose apt has kernels and module packages in its cache"
  echo "$kernels" >"$LAB/apt-kernels"
  dir=$LAB/apt.part
  if [ -d "$dir" ]; then unmount_all "$(realpath "$dir")"; fi
  rm -rf --one-file-system "$dir"
  : >"$LAB/apt.log"
  cp -a "$LAB/base" "$dir"
  devices "$dir"
  # shellcheck disable=SC2064 # the path as it is now
  trap "unmount_all '$(realpath "$dir")'" EXIT
  fill_apt "$dir" "$kernels"
  unmount_all "$(realpath "$dir")"
  trap - EXIT
  finish apt
}

make_boot() {
  [ -d "$LAB/boot" ] && return
  ensure_lists
  local dir p
  say "boot: the tools of GRUB and systemd-boot"
  fetch_debs "$DEBS" "${boot_packages[@]}"
  dir=$(begin boot)
  for p in "${boot_packages[@]}"; do
    dpkg -x "$DEBS/${p}"_*.deb "$dir"
  done
  finish boot
}

# apt_trixie DIR COMMAND...: apt-get with the packages of Debian 13, which knows
# nothing of the machine's.
apt_trixie() {
  local dir=$1
  shift
  apt-get -q -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=- \
    -o Dir::State="$dir/state" -o Dir::State::status=/dev/null -o Dir::Cache="$dir/cache" "$@"
}

# make_trixie: the programs find the libraries beside them, in the lab.
make_trixie() {
  [ -d "$LAB/trixie" ] && return
  local dir apt mirror p libs
  read -r _ mirror < <(debian_mirror) || die "trixie: apt knows no Debian archive"
  say "trixie: depmod and make of Debian 13"
  dir=$(begin trixie)
  apt=$dir/apt
  mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$dir/bin"
  echo "deb $mirror trixie main" >"$apt/sources.list"
  if ! { apt_trixie "$apt" update && (cd "$dir" && apt_trixie "$apt" download "${trixie_packages[@]}"); } >"$LAB/trixie.log" 2>&1; then
    cat "$LAB/trixie.log" >&2
    die "trixie: no packages of Debian 13"
  fi
  for p in "$dir"/*.deb; do
    dpkg -x "$p" "$dir"
  done
  rm -rf "$apt" "$dir"/*.deb "${dir:?}/usr/share"
  libs=$LAB/trixie/usr/lib/x86_64-linux-gnu
  for p in kmod:depmod make:make; do
    cp "$dir/usr/bin/${p%:*}" "$dir/bin/${p#*:}"
    patchelf --set-interpreter "$libs/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$libs" "$dir/bin/${p#*:}"
  done
  finish trixie
}

case ${1:-all} in
  all) make_root; make_corpus; make_oracle; make_base; make_apt; make_verify; make_rt; make_boot; make_trixie ;;
  root) make_root ;;
  corpus) make_corpus ;;
  oracle) make_oracle ;;
  base) make_base ;;
  apt) make_apt ;;
  verify) make_verify ;;
  rt) make_rt ;;
  boot) make_boot ;;
  trixie) make_trixie ;;
  clean)
    if awk -v lab="$LAB/" '{ if (index($2, lab) == 1 || index($4, "=" lab)) found = 1 } END { exit !found }' /proc/mounts; then
      die "clean: something of $LAB is mounted; drop the scratch roots first"
    fi
    rm -rf --one-file-system "$LAB"
    ;;
  *) die "usage: lab.sh [root|corpus|oracle|base|apt|verify|rt|boot|trixie|clean]" ;;
esac
