// SPDX-License-Identifier: Apache-2.0
//
// What hostile modules do that a shell can't. An attack that works exits 0, one
// that is refused says why and exits 1. "serve" is the victim.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define VICTIM "hostile-victim"
#define SECRET "s3cr3t-of-root"
#define SHMKEY 0x7777

static int refused(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return 1;
}

static int tcp(int port, int listening)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
	if (s < 0)
		return -1;
	a.sin_addr.s_addr = listening ? INADDR_ANY : htonl(INADDR_LOOPBACK);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (listening ? bind(s, (void *)&a, sizeof a) || listen(s, 9) : connect(s, (void *)&a, sizeof a))
		return -1;
	return s;
}

// A name that begins with @ is an abstract one (unix(7)).
static int local(const char *name, int listening)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	socklen_t len = offsetof(struct sockaddr_un, sun_path) + strlen(name);
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	if (s < 0)
		return -1;
	strncpy(a.sun_path, name, sizeof a.sun_path - 1);
	if (*name == '@')
		a.sun_path[0] = 0;
	else {
		len++;
		if (listening)
			unlink(name);
	}
	if (listening ? bind(s, (void *)&a, len) || listen(s, 9) : connect(s, (void *)&a, len))
		return -1;
	if (listening && *name != '@')
		chmod(name, 0777);
	return s;
}

static void loopback_up(void)
{
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &r);
}

static void note(const char *what)
{
	int f = open("/hostile/out/reached", O_WRONLY | O_CREAT | O_APPEND, 0644);
	dprintf(f, "%s\n", what);
	close(f);
}

// serve notes who reaches it, and reaches out for who listens.
static int serve(void)
{
	struct pollfd p[3];
	const char *names[] = {"tcp", "abstract", "path"};
	int shm = shmget(SHMKEY, 4096, IPC_CREAT | 0666);
	prctl(PR_SET_NAME, VICTIM);
	loopback_up();
	p[0].fd = tcp(7777, 1);
	p[1].fd = local("@hostile", 1);
	p[2].fd = local("/run/hostile.sock", 1);
	if (p[0].fd < 0 || p[1].fd < 0 || p[2].fd < 0 || shm < 0)
		return refused("serve");
	for (int i = 0; i < 3; i++)
		p[i].events = POLLIN;
	close(open("/hostile/out/ready", O_WRONLY | O_CREAT, 0644));
	for (;;) {
		int s;
		struct shmid_ds ds;
		if (poll(p, 3, 20) > 0)
			for (int i = 0; i < 3; i++)
				if (p[i].revents & POLLIN) {
					close(accept(p[i].fd, 0, 0));
					note(names[i]);
				}
		if ((s = tcp(7778, 0)) >= 0) {
			close(s);
			note("their tcp");
		}
		if ((s = local("@theirs", 0)) >= 0) {
			close(s);
			note("their abstract");
		}
		if (!shmctl(shm, IPC_STAT, &ds) && ds.shm_nattch > 0)
			note("shm");
	}
}

// each calls fn for the processes that /proc shows, then for all low numbers.
static int each(int (*fn)(int pid))
{
	int hits = 0;
	for (int pid = 1; pid < 1000; pid++)
		if (pid != getpid())
			hits += fn(pid);
	return hits;
}

static int is_victim(int pid)
{
	char path[64], name[32] = "";
	snprintf(path, sizeof path, "/proc/%d/comm", pid);
	int f = open(path, O_RDONLY);
	if (f >= 0) {
		ssize_t n = read(f, name, sizeof name - 1);
		name[n > 0 ? n - 1 : 0] = 0;
		close(f);
	}
	return !strcmp(name, VICTIM) || !strcmp(name, "dkms");
}

static int trace_one(int pid)
{
	int was = is_victim(pid);
	if (ptrace(PTRACE_ATTACH, pid, 0, 0))
		return 0;
	waitpid(pid, 0, __WALL);
	if (was)
		ptrace(PTRACE_KILL, pid, 0, 0), kill(pid, SIGKILL);
	else
		ptrace(PTRACE_DETACH, pid, 0, 0);
	return was;
}

static int kill_one(int pid) { return is_victim(pid) && !kill(pid, SIGKILL); }

// environ_one looks into another process's files and memory.
static int environ_one(int pid)
{
	char path[64], buf[4096];
	int hit = 0;
	if (!is_victim(pid))
		return 0;
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, (const char *[]){"/proc/%d/environ", "/proc/%d/mem", "/proc/%d/root/etc/hostile-secret"}[i], pid);
		int f = open(path, O_RDONLY);
		if (f >= 0) {
			ssize_t n = read(f, buf, sizeof buf);
			if (n > 0)
				write(1, buf, n);
			hit++;
			close(f);
		}
	}
	return hit;
}

// root tries all ways back to being root.
static int root(void)
{
	if (setgroups(0, 0) == 0 || setresgid(0, 0, 0) == 0)
		puts("groups changed");
	if (setresuid(0, 0, 0) == 0 || setuid(0) == 0 || seteuid(0) == 0) {
		int f = open("/etc/hostile-mark", O_WRONLY | O_CREAT, 0644);
		if (f >= 0)
			return 0;
	}
	return refused("setuid");
}

static int mark(const char *path)
{
	int f = open(path, O_WRONLY | O_CREAT, 0644);
	return f < 0 ? refused(path) : 0;
}

// lent is what somebody outside runs: to whom did it make him?
static int lent(const char *path)
{
	return geteuid() == getuid() ? refused("nobody else") : mark(path);
}

static void map(const char *file, int id)
{
	int f = open(file, O_WRONLY);
	dprintf(f, "0 %d 1", id);
	close(f);
}

// userns takes all capabilities in a user namespace and tries the walls with them.
static int userns(void)
{
	int uid = getuid(), gid = getgid(), hits = 0;
	int out = open("/", O_RDONLY | O_DIRECTORY);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return refused("unshare");
	int f = open("/proc/self/setgroups", O_WRONLY);
	write(f, "deny", 4);
	close(f);
	map("/proc/self/uid_map", uid);
	map("/proc/self/gid_map", gid);
	mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
	for (int i = 0; i < 5; i++) {
		const char *dir = (const char *[]){"/", "/etc", "/usr", "/home", "/root"}[i];
		mount(0, dir, 0, MS_REMOUNT | MS_BIND, 0);
		if (i > 2)
			umount2(dir, MNT_DETACH);
	}
	hits += !mark("/etc/hostile-mark");
	hits += !mark("/usr/src/hostile-mark");
	hits += !access("/home/user/victim", R_OK);
	// chroot(2): the classic way out of a directory.
	mkdir("jail", 0755);
	if (!chroot("jail") && !fchdir(out)) {
		for (int i = 0; i < 64; i++)
			chdir("..");
		chroot(".");
		hits += !mark("/etc/hostile-mark");
	}
	return !hits;
}

static int key(int add)
{
	char buf[64] = "";
	if (add)
		return syscall(SYS_add_key, "user", "hostile", SECRET, strlen(SECRET), KEY_SPEC_SESSION_KEYRING) < 0 ? refused("add_key") : 0;
	for (int i = 0; i < 3; i++) {
		int ring = (int[]){KEY_SPEC_SESSION_KEYRING, KEY_SPEC_USER_SESSION_KEYRING, KEY_SPEC_USER_KEYRING}[i];
		long k = syscall(SYS_keyctl, KEYCTL_SEARCH, ring, "user", "hostile", 0);
		if (k > 0 && syscall(SYS_keyctl, KEYCTL_READ, k, buf, sizeof buf) > 0) {
			puts(buf);
			return 0;
		}
	}
	return refused("keyctl");
}

// fds reports a file descriptor that leads to more than a command needs.
static int fds(void)
{
	int hits = 0;
	for (int fd = 3; fd < 256; fd++) {
		struct stat st;
		char link[64], to[256] = "";
		if (fstat(fd, &st))
			continue;
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		readlink(link, to, sizeof to - 1);
		printf("%d is %s\n", fd, to);
		hits += S_ISDIR(st.st_mode) || S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || S_ISSOCK(st.st_mode);
	}
	return !hits;
}

// terminal tries to be heard by, or to type at, the terminal of who runs dkms.
static int terminal(void)
{
	int hits = 0, f = open("/dev/tty", O_RDWR);
	if (f >= 0) {
		dprintf(f, "hostile dialog\n");
		hits++;
	}
	for (int fd = 0; fd < 3; fd++)
		if (isatty(fd) && !ioctl(fd, TIOCSTI, "x"))
			hits++;
	for (int i = 0; i < 9; i++) {
		char pts[32];
		snprintf(pts, sizeof pts, "/dev/pts/%d", i);
		if ((f = open(pts, O_RDWR | O_NOCTTY)) >= 0)
			hits++;
	}
	return hits ? 0 : refused("terminal");
}

// bomb starts processes that start processes, none of which heeds SIGTERM.
static void bomb(void)
{
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	int failed = 0;
	for (;;) {
		int p = fork();
		if (p < 0 && ++failed > 1000)
			usleep(100000);
		if (p == 0)
			setsid();
	}
}

// eat takes so many MiB of memory.
static int eat(int mib)
{
	for (int i = 0; i < mib; i++) {
		char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return refused("mmap");
		memset(p, 1, 1 << 20);
	}
	return 0;
}

// daemonize leaves a process behind: forked twice, in a session of its own,
// deaf to signals. With loud it goes on writing to what it has inherited.
static int daemonize(int loud)
{
	if (fork())
		return 0;
	setsid();
	if (fork())
		_exit(0);
	for (int s = 1; s < 65; s++)
		signal(s, SIG_IGN);
	prctl(PR_SET_NAME, "hostile-daemon");
	if (!loud)
		for (int fd = 0; fd < 256; fd++)
			close(fd);
	for (;;) {
		if (loud)
			printf("still here\n"), fflush(stdout);
		usleep(200000);
	}
}

static int listening(int s)
{
	if (s < 0)
		return refused("listen");
	sleep(1);
	return 0;
}

// deep makes directories in directories.
static int deep(int levels)
{
	for (int i = 0; i < levels; i++)
		if (mkdir("d", 0755) || chdir("d"))
			return refused("mkdir");
	return 0;
}

static int shm(void)
{
	int id = shmget(SHMKEY, 0, 0);
	if (id < 0 || shmat(id, 0, 0) == (void *)-1)
		return refused("shmat");
	sleep(1);
	return 0;
}

int main(int argc, char **argv)
{
	const char *do_ = argc > 1 ? argv[1] : "", *arg = argc > 2 ? argv[2] : "";
	setvbuf(stdout, 0, _IOLBF, 0);
#define IS(x) (!strcmp(do_, x))
	if (IS("serve")) return serve();
	if (IS("tcp")) return tcp(atoi(arg), 0) < 0 ? refused("connect") : 0;
	if (IS("unix")) return local(arg, 0) < 0 ? refused("connect") : 0;
	if (IS("listen")) return listening(tcp(atoi(arg), 1));
	if (IS("listen-unix")) return listening(local(arg, 1));
	if (IS("ptrace")) return each(trace_one) ? 0 : refused("ptrace");
	if (IS("kill")) return each(kill_one) ? 0 : refused("kill");
	if (IS("kill-all")) { kill(-1, SIGKILL); return refused("kill"); }
	if (IS("peek")) return each(environ_one) ? 0 : refused("peek");
	if (IS("root")) return root();
	if (IS("userns")) return userns();
	if (IS("addkey")) { if (key(1)) return 1; execvp(argv[2], argv + 2); return refused("exec"); }
	if (IS("key")) return key(0);
	if (IS("fds")) return fds();
	if (IS("terminal")) return terminal();
	if (IS("bomb")) bomb();
	if (IS("eat")) return eat(atoi(arg));
	if (IS("daemon")) return daemonize(0);
	if (IS("loud-daemon")) return daemonize(1);
	if (IS("deep")) return deep(atoi(arg));
	if (IS("shm")) return shm();
	if (IS("mknod")) return mknod(arg, S_IFBLK | 0666, makedev(254, 0)) || open(arg, O_RDONLY) < 0 ? refused("mknod") : 0;
	if (IS("mount")) return mount("none", arg, "tmpfs", 0, 0) ? refused("mount") : 0;
	if (IS("open")) return open(arg, O_WRONLY | O_NONBLOCK) < 0 ? refused(arg) : 0;
	if (IS("mark")) return mark(arg);
	if (IS("lent")) return lent(arg);
	fprintf(stderr, "unknown attack %s\n", do_);
	return 2;
}
