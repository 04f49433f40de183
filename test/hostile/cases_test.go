// SPDX-License-Identifier: Apache-2.0

package hostile

// attack is a module that does what it shouldn't.
type attack struct {
	name string
	// do is the attack, for bash -e, as the module's MAKE. If it comes to its
	// end, the object that the conf names is put into its place.
	do string
	// conf is added to the module's conf; files are further ones of its source.
	conf  string
	files map[string]string
	// setup is done by root beforehand, command in place of dkms install.
	setup, command string
	// builds says that the build goes on after the attack, and succeeds.
	builds bool
	// says is what the message has to tell, as a regular expression.
	says string
	// terminal has dkms run on one.
	terminal bool
	// risky attacks aren't let loose unconfined, not even in the bounds of
	// world.sh.
	risky bool
	// inside says that the attack stays in its own build directory, where it is
	// the reader who must not be misled: it fails unconfined as well.
	inside bool
}

func attacks() []attack {
	var all []attack
	for _, list := range [][]attack{writes(), reads(), talks(), processes(), rights(), limits(), names(), confs(), stages()} {
		all = append(all, list...)
	}
	return all
}

// writes go to what isn't the module's.
func writes() []attack {
	var list []attack
	for name, path := range map[string]string{
		"etc":            "/etc/hostile-mark",
		"source-tree":    "/usr/src/hostile-mark",
		"own-source":     "/usr/src/$module-$module_version/hostile-mark",
		"home":           "/home/user/hostile-mark",
		"root-home":      "/root/hostile-mark",
		"other-tree":     "/var/lib/dkms/other/1.0/hostile-mark",
		"dkms-tree":      "/var/lib/dkms/hostile-mark",
		"own-result":     "/var/lib/dkms/$module/$module_version/hostile-mark",
		"headers":        "/lib/modules/$kernelver/build/hostile-mark",
		"modules":        "/lib/modules/$kernelver/hostile-mark",
		"modules-update": "/lib/modules/$kernelver/updates/hostile-mark",
		"boot":           "/boot/hostile-mark",
		"run":            "/run/hostile-mark",
		"dkms-conf":      "/etc/dkms/hostile-mark",
		"cache":          "/var/cache/hostile-mark",
		"by-proc-root":   "/proc/1/root/etc/hostile-mark",
		"by-proc-cwd":    "/proc/$PPID/root/etc/hostile-mark",
	} {
		list = append(list, attack{name: "write-" + name, do: "mkdir -p $(dirname " + path + ")\necho hostile >" + path})
	}
	return append(list,
		attack{name: "append-victim", do: "echo hostile >>/etc/hostile-victim"},
		attack{name: "append-other", do: "echo hostile >>/usr/src/other-1.0/victim"},
		attack{name: "append-result", do: "echo hostile >>/var/lib/dkms/other/1.0/$kernelver/x86_64/module/victim"},
		attack{name: "truncate", do: ": >/home/user/victim"},
		attack{name: "remove", do: "rm /etc/hostile-victim"},
		attack{name: "rename", do: "mv /usr/src/other-1.0/victim /usr/src/other-1.0/hostile-mark"},
		attack{name: "chmod", do: "chmod 4777 /etc/hostile-victim"},
		attack{name: "tmp", do: "touch /tmp/hostile-mark /var/tmp/hostile-mark /dev/shm/hostile-mark", builds: true},
	)
}

// reads are of what only root, or a user, may read.
func reads() []attack {
	var list []attack
	for name, path := range map[string]string{
		"secret": "/etc/hostile-secret", "shadow": "/etc/shadow", "group": "/etc/hostile-group",
		"root-home": "/root/secret", "home": "/home/user/secret", "signing-key": "/hostile/mok.key",
	} {
		list = append(list, attack{name: "read-" + name, do: "cat " + path})
	}
	return append(list,
		attack{name: "read-by-proc", do: "cat /proc/1/root/etc/hostile-secret"},
		attack{name: "peek", do: "/hostile/attack peek"},
		attack{name: "key", do: "/hostile/attack key"},
		attack{name: "environment", do: "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -a KBUILD_SIGN_PIN", command: "KBUILD_SIGN_PIN=$(cat /etc/hostile-secret) dkms build MODULE -k KERNEL"},
		attack{name: "descriptors", do: "/hostile/attack fds >&2"},
		attack{name: "hidden-home", do: "ls /home/user/victim"},
		attack{name: "hidden-run", do: "ls /run/hostile.sock"},
	)
}

// talks are with others on the machine or elsewhere.
func talks() []attack {
	return []attack{
		{name: "tcp", do: "/hostile/attack tcp 7777"},
		{name: "abstract-socket", do: "/hostile/attack unix @hostile"},
		{name: "path-socket", do: "/hostile/attack unix /run/hostile.sock"},
		{name: "tcp-listen", do: "/hostile/attack listen 7778"},
		{name: "abstract-listen", do: "/hostile/attack listen-unix @theirs", builds: true},
		{name: "shared-memory", do: "/hostile/attack shm"},
		{name: "stdin", do: "cat; read line || true", builds: true, inside: true},
		{name: "terminal", do: "/hostile/attack terminal", terminal: true},
		{name: "terminal-read", do: "read line </dev/tty", terminal: true, risky: true},
		{name: "dialog", do: "exec 2>/dev/tty >/dev/tty </dev/tty; echo '-- accept? --'; read answer", terminal: true, risky: true},
	}
}

// processes are others', or outlive the build.
func processes() []attack {
	return []attack{
		{name: "ptrace", do: "/hostile/attack ptrace"},
		{name: "kill", do: "/hostile/attack kill"},
		{name: "kill-all", do: "/hostile/attack kill-all"},
		{name: "daemon", do: "/hostile/attack daemon", builds: true},
		{name: "loud-daemon", do: "/hostile/attack loud-daemon", builds: true, risky: true},
		{name: "background", do: "sleep 86399 & disown", builds: true},
		{name: "nohup", do: "setsid nohup sleep 86399 >/dev/null 2>&1 &", builds: true},
		{name: "kill-parent", do: "kill -9 $PPID; sleep 1"},
		{name: "sleep", do: "sleep infinity", risky: true, says: "time|seconds|longer"},
		{name: "deaf", do: "trap '' TERM INT HUP; while :; do sleep 1000 || true; done", risky: true, says: "time|seconds|longer"},
		{name: "stopped", do: "kill -STOP $$", risky: true, says: "time|seconds|longer"},
		{name: "busy", do: "while :; do :; done", risky: true, says: "time|seconds|longer"},
	}
}

// rights are of root's.
func rights() []attack {
	list := []attack{
		{name: "root", do: "/hostile/attack root"},
		{name: "set-user-id", do: "/usr/local/bin/rootme"},
		{name: "su", do: "su -c 'touch /etc/hostile-mark'"},
		{name: "mknod", do: "/hostile/attack mknod disk"},
		{name: "mount", do: "/hostile/attack mount /mnt"},
		{name: "user-namespace", do: "/hostile/attack userns"},
		{name: "unshare", do: "unshare -Urm sh -c 'mount -o remount,rw,bind / && touch /etc/hostile-mark'", inside: true},
		{name: "set-id-left", do: "cp /bin/true left; chmod 6755 left || chmod 2755 left; exit 1", inside: true},
		{name: "set-user-id-lent", do: "cp /hostile/attack lent; chmod 4755 lent; sleep 1", command: withBorrower},
		{name: "modprobe", do: "insmod prebuilt"},
	}
	for name, path := range map[string]string{
		"mem": "/dev/mem", "kmsg": "/dev/kmsg", "sysrq": "/proc/sysrq-trigger", "sysctl": "/proc/sys/kernel/domainname",
		"sysfs": "/sys/kernel/mm/transparent_hugepage/enabled", "core-pattern": "/proc/sys/kernel/core_pattern",
	} {
		list = append(list, attack{name: "open-" + name, do: "/hostile/attack open " + path})
	}
	return append(list, attack{name: "disks", do: "for d in /dev/[svhx][dr]?* /dev/vd* /dev/nvme* /dev/loop* /dev/dm-*; do ! /hostile/attack open $d || exit 0; done; exit 1", inside: true})
}

// withBorrower has a user outside wait for a program that makes him the one who
// builds.
const withBorrower = `setpriv --reuid 1000 --regid 1000 --clear-groups bash -c '
while :; do for f in /var/lib/dkms/*/*/*/lent /var/lib/dkms/*/*/.*/lent; do [ ! -x "$f" ] || "$f" lent /tmp/hostile-mark; done; sleep 0.05; done' 2>/dev/null &
borrower=$!
dkms build MODULE -k KERNEL
code=$?
kill $borrower; wait $borrower 2>/dev/null
exit $code`

// limits are what a machine has no more of at some point.
func limits() []attack {
	return []attack{
		{name: "fork-bomb", do: "/hostile/attack bomb", risky: true},
		{name: "fork-bomb-shell", do: "trap '' TERM; f() { f | f & }; f; sleep 1000", risky: true},
		{name: "disk-one-file", do: "dd if=/dev/zero of=big bs=1M count=400 2>&1", risky: true},
		{name: "disk-many-files", do: "for i in {1..40}; do dd if=/dev/zero of=f$i bs=1M count=10; done 2>&1", risky: true, says: "disk|space"},
		{name: "disk-tmp", do: "for i in {1..200}; do dd if=/dev/zero of=/tmp/f$i bs=1M count=10 || exit 1; done 2>&1", risky: true},
		{name: "output", do: "yes", risky: true, says: "wrote more than"},
		{name: "memory", do: "/hostile/attack eat 3000", risky: true},
		{name: "deep", do: "/hostile/attack deep 3000; exit 1", inside: true},
		{name: "many-files", do: "mkdir many; cd many; touch {1..9999}; exit 1", inside: true},
	}
}

// names are left in the build directory to mislead its reader.
func names() []attack {
	return []attack{
		{name: "object-link", do: "ln -s /etc/hostile-secret h.ko; exit 0", says: "leads out", inside: true},
		{name: "object-pipe", do: "mkfifo h.ko; exit 0", says: "named pipe", inside: true},
		{name: "object-device", do: "ln -s /dev/zero h.ko; exit 0", says: "leads out", inside: true},
		{name: "object-directory", do: "mkdir h.ko; exit 0", says: "directory", inside: true},
		{name: "object-holes", do: "cp prebuilt h.ko; truncate -s 8T h.ko; exit 0", inside: true, risky: true},
		{name: "object-garbage", do: "head -c 100000 /dev/urandom >h.ko; exit 0", inside: true},
		{name: "object-cut", do: "head -c 1000 prebuilt >h.ko; exit 0", inside: true},
		{name: "object-sections", do: "cp prebuilt h.ko; printf '\\377\\377\\377\\377\\377\\377\\377\\177' | dd of=h.ko bs=1 seek=40 conv=notrunc; exit 0", inside: true},
		{name: "object-hard-link", do: "ln /etc/hostile-secret h.ko; exit 0"},
		{name: "symvers-link", do: "ln -s /etc/hostile-secret Module.symvers", says: "leads out", inside: true},
		{name: "log-link", do: "rm -f make.log; ln -s /etc/hostile-victim make.log", builds: true, inside: true},
		{name: "log-link-secret", do: "rm -f make.log; ln -s /etc/hostile-secret make.log; exit 1", inside: true},
		{name: "log-pipe", do: "rm -f make.log; mkfifo make.log", builds: true, inside: true},
		{name: "links-out", do: "ln -s / everything; ln -s /home/user home; ln -s /usr/src/other-1.0 other; rm -rf sub; ln -s /etc sub; exit 1", inside: true},
		{name: "build-link", do: "cd ..; rm -rf build; ln -s /usr/src/other-1.0 build"},
		{name: "escapes", do: "printf 'a.c:1:1: error: \\033]0;owned\\007\\033[2J\\n'; exit 1", inside: true},
	}
}

// confs are hostile when they are evaluated, or in what they say.
func confs() []attack {
	return []attack{
		{name: "conf-writes", conf: "x=$(echo hostile >/etc/hostile-mark)\n", builds: true},
		{name: "conf-reads", conf: "x=$(cat /etc/hostile-secret); echo $x >&2\n", builds: true},
		{name: "conf-loops", conf: "while :; do :; done\n", risky: true},
		{name: "conf-sleeps", conf: "x=$(sleep 1000)\n", risky: true},
		{name: "conf-bomb", conf: "x=$(/hostile/attack bomb)\n", risky: true},
		{name: "conf-prints", conf: "x=$(yes)\n", risky: true},
		{name: "conf-prints-all", conf: "yes\n", risky: true},
		{name: "conf-kills", conf: "x=$(kill -9 $PPID $$)\n", risky: true},
		{name: "conf-daemon", conf: "x=$(/hostile/attack daemon)\n", builds: true},
		{name: "conf-network", conf: "x=$(/hostile/attack tcp 7777)\n", builds: true},
		{name: "conf-pipe", setup: "rm /usr/src/conf-pipe-1.0/dkms.conf; mkfifo /usr/src/conf-pipe-1.0/dkms.conf", inside: true},
		{name: "name-up", conf: "BUILT_MODULE_NAME[0]=../../../../../../etc/hostile-mark\nDEST_MODULE_NAME[0]=h\n", inside: true},
		{name: "location-up", conf: "BUILT_MODULE_LOCATION[0]=../../../../../../etc/\n", inside: true},
		{name: "destination-up", conf: "DEST_MODULE_NAME[0]=../../../../../../../../../etc/hostile-mark\n", inside: true},
		{name: "install-up", conf: "DEST_MODULE_LOCATION[0]=/../../../../../../etc\nDEST_MODULE_NAME[0]=hostile-mark\n", command: "dkms install MODULE -k KERNEL", inside: true},
		{name: "patch-up", conf: "PATCH[0]=../../../../../../etc/hostile-victim\n", inside: true},
		{name: "patch-out", conf: "PATCH[0]=out.patch\n", files: map[string]string{"patches/out.patch": "--- /dev/null\n+++ b/../../../../../../etc/hostile-mark\n@@ -0,0 +1 @@\n+hostile\n"}, inside: true},
	}
}

// stages are those besides MAKE, and other ways in.
func stages() []attack {
	script := map[string]string{"script": "#!/bin/sh\necho hostile >/etc/hostile-mark\n"}
	archive := `cd /tmp && rm -rf a && mkdir -p a/dkms_source_tree && cd a && cp /usr/src/archive-link-1.0/* dkms_source_tree/ &&
ln -s /etc dkms_source_tree/sub && tar cf ../a.tar dkms_source_tree && rm dkms_source_tree/sub && mkdir dkms_source_tree/sub &&
echo x >dkms_source_tree/sub/hostile-mark && tar rf ../a.tar dkms_source_tree/sub/hostile-mark; rm -rf /usr/src/archive-link-1.0`
	return []attack{
		{name: "pre-build", conf: "PRE_BUILD=script\n", files: script},
		{name: "post-build", conf: "POST_BUILD=script\n", files: script},
		{name: "clean", conf: "CLEAN='echo hostile >/etc/hostile-mark'\n", builds: true, inside: true},
		{name: "pre-build-log", conf: "PRE_BUILD=log\n", files: map[string]string{"log": "#!/bin/sh\nrm -f make.log\nln -s /etc/hostile-victim make.log\n"}, builds: true, inside: true},
		{name: "post-build-object", conf: "POST_BUILD=swap\n", files: map[string]string{"swap": "#!/bin/sh\nrm -f h.ko\nln -s /etc/hostile-victim h.ko\n"}, builds: true, inside: true},
		{name: "archive-link", setup: archive, command: "dkms ldtarball /tmp/a.tar", inside: true},
	}
}
