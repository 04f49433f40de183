#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Copies all files of dkms to DESTDIR, as packages have them. The binary and
# the manual pages are built before (make build man).
#
#   install.sh FAMILY DESTDIR
#
# FAMILY is deb, rpm, arch, or none for the files that all three have.
set -eu
cd "$(dirname -- "$0")/.."
family=$1 dest=$2

# tree DIR: the files below packaging/tree/DIR, with the modes they have.
tree() {
  local file mode
  while IFS= read -r file; do
    mode=644
    [ ! -x "packaging/tree/$1/$file" ] || mode=755
    install -D -m "$mode" "packaging/tree/$1/$file" "$dest/$file"
  done < <(cd "packaging/tree/$1" && find . -type f | sort)
}

zsh=/usr/share/zsh/site-functions
licence=/usr/share/licenses/dkms-go/LICENSE
conf=/etc/dkms/framework.conf
case $family in
  deb)
    zsh=/usr/share/zsh/vendor-completions
    licence=/usr/share/doc/dkms-go/copyright
    conf=/usr/share/dkms-go/framework.conf # deb/postinst
    ;;
  rpm | arch | none) ;;
  *) echo "usage: install.sh deb|rpm|arch|none DESTDIR" >&2; exit 2 ;;
esac

tree all
[ ! -d "packaging/tree/$family" ] || tree "$family"
install -D -m 755 bin/dkms "$dest/usr/sbin/dkms"
install -D -m 644 packaging/framework.conf "$dest$conf"
install -D -m 644 LICENSE "$dest$licence"
install -D -m 644 completions/dkms.bash "$dest/usr/share/bash-completion/completions/dkms"
install -D -m 644 completions/dkms.fish "$dest/usr/share/fish/vendor_completions.d/dkms.fish"
install -D -m 644 completions/_dkms "$dest$zsh/_dkms"
for page in dkms.8 dkms.conf.5; do
  section=man${page##*.}
  install -d "$dest/usr/share/man/$section"
  gzip -9n <"dist/$page" >"$dest/usr/share/man/$section/$page.gz"
  chmod 644 "$dest/usr/share/man/$section/$page.gz"
done
install -d "$dest/etc/dkms/framework.conf.d" "$dest/var/lib/dkms"
install -d "$dest/usr/lib/systemd/system/multi-user.target.wants"
ln -sfn ../dkms.service "$dest/usr/lib/systemd/system/multi-user.target.wants/dkms.service"
