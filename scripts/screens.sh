#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Writes docs/screens.md: what dkms shows on a terminal of 80 columns (tmux), with
# real modules of Debian's archive and the kernels of the lab, in a scratch root.
set -eu
here=$(cd "$(dirname -- "$0")" && pwd)
cd "$here/.."
LAB=${LAB:-$PWD/.lab}
page=docs/screens.md
fence='```'
modules=(acpi-call ddcci digimend dm-writeboost dpdk-kmods vpoll)
old=$(sed -n 's/^old //p' "$LAB/kernels")
new=$(sed -n 's/^new //p' "$LAB/kernels")

root=$(mktemp -d "${TMPDIR:-/tmp}/dkms-screens.XXXXXX")
tmux=(tmux -L "screens$$" -f /dev/null)
trap '"${tmux[@]}" kill-server 2>/dev/null; scripts/scratch.sh drop "$root"' EXIT
scripts/scratch.sh make "$root"
install -m 755 bin/dkms "$root/usr/sbin/dkms"
for m in "${modules[@]}" tp-smapi; do
  cp -a "$LAB/corpus/$m-dkms/usr/src/." "$root/usr/src/"
done
"${tmux[@]}" new-session -d -x 80 -y 50 "chroot '$root' env -i TERM=screen PATH=/usr/sbin:/usr/bin HOME=/root PS1='# ' PROMPT_COMMAND=': >/done' bash --norc --noprofile"
"${tmux[@]}" set-option -g history-limit 5000

screen() { "${tmux[@]}" capture-pane -p -S - | sed 's/ *$//' | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'; }

# shows TITLE COMMAND [SECONDS]: adds a section with what COMMAND shows at its end
# and, if asked for, some seconds before.
shows() {
  "${tmux[@]}" send-keys C-l && sleep 0.3 && "${tmux[@]}" clear-history
  rm -f "$root/done"
  printf '\n## %s\n\n' "$1" >>"$page"
  "${tmux[@]}" send-keys "$2" Enter
  if [ -n "${3:-}" ]; then
    sleep "$3"
    [ -e "$root/done" ] && { echo "screens.sh: $2 ended before it was looked at" >&2; exit 1; }
    printf 'While it runs:\n\n%s\n%s\n%s\n\nAt its end:\n\n' "$fence" "$(screen)" "$fence" >>"$page"
  fi
  until [ -e "$root/done" ]; do sleep 0.2; done
  sleep 0.5
  printf '%s\n%s\n%s\n' "$fence" "$(screen | sed '$d')" "$fence" >>"$page"
}

cat >"$page" <<END
# Screens

What dkms shows on a terminal of 80 columns; \`make screens\` makes this page. Lines about what is under way are there on a terminal only, and gone when it has ended. To a pipe, a file or a package manager dkms writes plain text, without escape sequences. There are no colours, so there is nothing that \`NO_COLOR\` would turn off; with \`TERM=dumb\` or \`--verbose\` there are no such lines either.
END

quietly() { chroot "$root" "$@" >/dev/null; }
shows "install" "dkms install acpi-call/$(basename "$root"/usr/src/acpi-call-* | sed 's/^acpi-call-//') -k $old" 3
for m in "${modules[@]:1}"; do quietly dkms add "$m/$(basename "$root"/usr/src/"$m"-* | sed "s/^$m-//")"; done
shows "autoinstall of six modules" "dkms autoinstall -k $old" 8
shows "A failure" "dkms install tp_smapi/$(basename "$root"/usr/src/tp_smapi-* | sed 's/^tp_smapi-//') -k $new"
shows "status" "dkms status"
shows "doctor" "dkms doctor -k $new"
shows "explain" "dkms explain install vpoll -k $new"
shows "matrix" "dkms matrix /usr/src/{acpi-call,tp_smapi,vpoll}-* --kernels $old,$new" 6
echo "screens.sh: $page is written; look at it"
