#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# play.sh CASE: runs the module of a case and writes to /hostile/out what came of
# it. See the package comment of test/hostile.
umount -l /.old
cd /
exec </dev/null
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C TERM=linux
case=/hostile/cases/$1
out=/hostile/out
rm -rf $out && mkdir $out
module=$(cat "$case/module")
kernel=$(cat /hostile/kernel)

/hostile/attack serve &
victim=$!
until [ -e $out/ready ]; do kill -0 $victim || exit 99; sleep 0.01; done
mkdir -p /var/lib/dkms/other/1.0/"$kernel"/x86_64/module
ln -s /usr/src/other-1.0 /var/lib/dkms/other/1.0/source
echo victim >/var/lib/dkms/other/1.0/"$kernel"/x86_64/module/victim
[ ! -e "$case/setup" ] || bash "$case/setup"

start=$(date +%s)
# A session key of root's, and a terminal where the case wants one.
if [ -e "$case/terminal" ]; then
  script -qefc "$(cat "$case/command") 2>$out/err" $out/out >/dev/null
else
  timeout -k 5 90 /hostile/attack addkey bash -c "$(cat "$case/command")" >$out/out 2>$out/err
fi
echo $? >$out/code
echo $(($(date +%s) - start)) >$out/seconds

# What runs now besides this script and the victim was left behind.
for p in /proc/[0-9]*; do
  pid=${p#/proc/}
  case $pid in 1 | $$ | "$BASHPID" | "$victim") continue ;; esac
  if line=$(tr '\0' ' ' <"$p/cmdline" 2>/dev/null); then
    state=$(awk '/^State:/ { print $2 }' "$p/status" 2>/dev/null)
    [ -z "$state" ] || [ "$state" = Z ] || echo "$pid $state $(cat "$p/comm") $line"
  fi
done >$out/left

kill -0 $victim 2>/dev/null && [ "$(awk '/^State:/ { print $2 }' /proc/$victim/status)" != Z ] || echo killed >>$out/reached
grep -rlsF s3cr3t-of-root /var/lib/dkms /var/cache/dkms /lib/modules/"$kernel"/updates $out >$out/leaked
# Marks that an attack leaves where it should not write, files of others that it
# changes, what would make a user another one.
find /etc /usr/src /root /home /lib/modules/ /boot /run /tmp /var/tmp /dev/shm /var/lib/dkms/other -name '*hostile-mark*' >$out/marks 2>/dev/null
find /var/lib/dkms -perm /6000 -type f >$out/setid

if [ -e "/var/lib/dkms/$module" ]; then
  timeout -k 5 60 dkms remove "$module" --all >$out/remove 2>&1
  echo $? >$out/remove.code
else
  echo 0 >$out/remove.code
fi
find "/var/lib/dkms/${module%/*}" /lib/modules/*/updates -mindepth 1 >$out/rest 2>/dev/null
want=$(echo victim | sha256sum | cut -d' ' -f1)
sha256sum $(cat /hostile/victims) /var/lib/dkms/other/1.0/"$kernel"/x86_64/module/victim 2>&1 | grep -v "^$want " >$out/changed
stat -c '%n %u %a' $(cat /hostile/victims) | grep -v ' 0 644$' >>$out/changed
exit 0
