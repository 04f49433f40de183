#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes the packages from bin/dkms and dist/*.[58]:
#
#   packages.sh VERSION [DIR]     in DIR, or in dist/
#
# The time of the last commit is that of all files, so the same commit gives
# the same packages, byte for byte.
set -eu
cd "$(dirname -- "$0")/.."
out=$(realpath -m "${2:-dist}")

# A "-" has a meaning of its own in both: 0.1.0-dev comes before 0.1.0,
# 0.1.0-3-gabc after it.
PKG_VERSION=$(sed 's/^v//; s/-\(dev\|rc\|beta\|alpha\)/~\1/; s/-/+/g' <<<"$1")
PKG_ARCH=$(go env GOARCH)
SOURCE_DATE_EPOCH=$(git -c safe.directory='*' log -1 --format=%ct 2>/dev/null || echo 0)
STAGE=$out/stage
export STAGE PKG_VERSION PKG_ARCH SOURCE_DATE_EPOCH

(cd packaging/tools && go build -o "$out/nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm)

rm -rf "$STAGE" "$out"/dkms-go_* "$out"/dkms-go-*
for family in deb rpm; do
  packaging/install.sh "$family" "$STAGE/$family"
done
rm "$STAGE"/rpm/etc/dkms/framework.conf # nfpm.yaml has it as a configuration file
find "$STAGE" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

rpm_arch=$PKG_ARCH
case $PKG_ARCH in
  amd64) rpm_arch=x86_64 ;;
  arm64) rpm_arch=aarch64 ;;
esac
"$out/nfpm" package -f packaging/nfpm.yaml -p deb -t "$out/dkms-go_${PKG_VERSION}_$PKG_ARCH.deb"
"$out/nfpm" package -f packaging/nfpm.yaml -p rpm -t "$out/dkms-go-${PKG_VERSION}-1.$rpm_arch.rpm"
