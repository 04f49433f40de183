// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"fmt"
	"strings"

	"dkms-go/internal/host"
	"dkms-go/internal/state"
)

// debSource returns the maintainer scripts of a package of a source (Debian policy
// 6.5). The work is done by the dkms that is installed.
//
// postinst also gives back what prerm has taken, when an upgrade or a removal was
// given up (abort-*). prerm tells this dkms that the module is about to be replaced:
// it keeps what works until its successor does. Another dkms has no such word, so it
// takes the module out, as packages made by dh_dkms do. Where the old package's prerm
// has failed because the tree was locked, the upgrade is given up.
func debSource(id state.ID, pkg string) map[string]string {
	m := strings.NewReplacer("NAME", id.Module, "VERSION", id.Version, "PACKAGE", pkg)
	return map[string]string{
		"postinst": m.Replace(`#!/bin/sh
set -e
case "$1" in
  configure) exec /usr/lib/dkms/common.postinst NAME VERSION /usr/share/PACKAGE "" "$2" ;;
  abort-*) exec /usr/lib/dkms/common.postinst NAME VERSION ;;
esac
`),
		"prerm": m.Replace(`#!/bin/sh
set -e
case "$1" in
  remove) left=0 ;;
  upgrade | deconfigure) left=1 ;;
  failed-upgrade) ! dkms --version | grep -q +go || exit 1 ; exit 0 ;;
  *) exit 0 ;;
esac
` + takeBack),
	}
}

// takeBack ends what a package has done. $left is how many packages of the name will
// be left.
const takeBack = `command -v dkms >/dev/null || exit 0
if [ "$left" -gt 0 ] && dkms --version | grep -q +go; then
  exec dkms hook replaced NAME VERSION
fi
[ -z "$(dkms status -m NAME -v VERSION)" ] || exec dkms remove -m NAME -v VERSION --all
`

// rpmSource returns the scriptlets of a package of a source. In an upgrade rpm runs
// the old package's preun, removes its files, and runs the new one's posttrans: the
// order of Debian's prerm and postinst, which that of post and preun is not.
func rpmSource(id state.ID) map[string]string {
	m := strings.NewReplacer("NAME", id.Module, "VERSION", id.Version, "MODULES", host.Default().InstallTree)
	return map[string]string{
		"posttrans": m.Replace(`if dkms --version | grep -q +go; then
  exec dkms hook package NAME VERSION
fi
[ -n "$(dkms status -m NAME -v VERSION)" ] || dkms add -m NAME -v VERSION || exit
failed=0
for build in MODULES/*/build; do
  [ -e "$build/include" ] || continue
  kernel=${build#MODULES/}
  dkms install -m NAME -v VERSION -k "${kernel%/build}" || [ $? -eq 77 ] || failed=1
done
exit $failed
`),
		"preun": m.Replace("left=$1\n" + takeBack),
	}
}

// objectScripts returns the scripts of a package of objects: the kernel's module index
// is made again, and its initramfs if the objects belong into it.
func objectScripts(f Format, kernel string, initramfs bool) map[string]string {
	var b strings.Builder
	fmt.Fprintf(&b, "kernel=%s\n[ -e %s/modules.order ] || exit 0\ndepmod $kernel\n", kernel, host.Default().KernelTree("$kernel"))
	if initramfs {
		b.WriteString(`if command -v update-initramfs >/dev/null; then
  update-initramfs -u -k $kernel
elif command -v dracut >/dev/null; then
  dracut --force --kver $kernel
fi
`)
	}
	if f == RPM {
		return map[string]string{"post": b.String(), "postun": b.String()}
	}
	const head = "#!/bin/sh\nset -e\n"
	return map[string]string{
		"postinst": head + b.String(),
		"postrm":   head + "case \"$1\" in\n  remove | disappear) ;;\n  *) exit 0 ;;\nesac\n" + b.String(),
	}
}
