// A package that tries one thing, named by its first argument, and says on standard output how it went.
// Inert: it touches only the paths and ports that it is given.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *how(long result) { return result >= 0 ? "ok" : strerrorname_np(errno); }
static void say(const char *what, long result) {
    printf("%s %s\n", what, how(result));
    fflush(stdout);
}
static int is(const char *verb, char **argv) { return strcmp(argv[1], verb) == 0; }

// Prints what a descriptor gives, or why there is none.
static void show(int fd) {
    char buffer[256];
    if (fd < 0) { say("open", fd); return; }
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0) say("read", n);
    else printf("%.*s\n", (int)n, buffer);
    fflush(stdout);
    close(fd);
}

// The pid of the watcher: it launched us.
static void watcher_path(char *out, size_t size, const char *before, const char *after) {
    snprintf(out, size, "%s/proc/%d%s", before, getppid(), after);
}

// ---- files

static void open_with(char **argv) { // PATH FLAGS MODE UMASK
    umask(strtol(argv[5], NULL, 8));
    int fd = open(argv[2], strtol(argv[3], NULL, 8), strtol(argv[4], NULL, 8));
    struct stat s;
    if (fd < 0) { say("open", fd); return; }
    fstat(fd, &s);
    printf("mode %o size %ld cloexec %d flags %o\n", s.st_mode & 07777, (long)(S_ISREG(s.st_mode) ? s.st_size : 0),
           fcntl(fd, F_GETFD), fcntl(fd, F_GETFL) & ~0100000);
}

static void through_path_descriptor(const char *path) {
    char name[64];
    int fd = open(path, O_PATH);
    if (fd < 0) { say("open", fd); return; }
    char byte;
    say("read", read(fd, &byte, 1));
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    show(open(name, O_RDONLY));
}

static void *open_for_reading(void *path) {
    show(open(path, O_RDONLY));
    return NULL;
}

static void named_pipe(const char *pipe, const char *other) {
    pthread_t reader;
    say("mkfifo", mkfifo(pipe, 0600));
    pthread_create(&reader, NULL, open_for_reading, (void *)pipe);
    usleep(200000);
    show(open(other, O_RDONLY)); // while the reader waits for us
    int fd = open(pipe, O_WRONLY);
    if (write(fd, "through the pipe", 16) != 16) say("write", -1);
    close(fd);
    pthread_join(reader, NULL);
}

static char raced[4096];
static atomic_int stop;
static char *first, *second;

static void *rewrite(void *unused) {
    (void)unused;
    size_t length = strlen(first);
    while (!stop) {
        memcpy(raced, second, length);
        memcpy(raced, first, length);
    }
    return NULL;
}

// Two paths of one length: how often each one's content came out.
static void race_open(char **argv) {
    first = argv[2], second = argv[3];
    memcpy(raced, first, strlen(first) + 1);
    pthread_t rewriter;
    pthread_create(&rewriter, NULL, rewrite, NULL);
    int firsts = 0, seconds = 0;
    for (int i = 0; i < atoi(argv[4]); i++) {
        int fd = open(raced, O_RDONLY);
        char byte = 0;
        if (fd < 0) continue;
        if (read(fd, &byte, 1) == 1) { if (byte == 'p') firsts++; else seconds++; }
        close(fd);
    }
    stop = 1;
    pthread_join(rewriter, NULL);
    printf("both %d\n", firsts > 0 && seconds > 0);
    printf("%d %d\n", firsts, seconds);
}

static struct open_how raced_how;
static void *rewrite_how(void *unused) {
    (void)unused;
    while (!stop) { raced_how.flags = O_RDONLY; raced_how.flags = O_PATH; }
    return NULL;
}

static void race_openat2(const char *path, int times) {
    pthread_t rewriter;
    int got = 0;
    pthread_create(&rewriter, NULL, rewrite_how, NULL);
    for (int i = 0; i < times; i++) {
        int fd = syscall(SYS_openat2, AT_FDCWD, path, &raced_how, sizeof raced_how);
        char byte;
        if (fd < 0) continue;
        if (read(fd, &byte, 1) == 1) got++;
        close(fd);
    }
    stop = 1;
    pthread_join(rewriter, NULL);
    printf("%d\n", got);
}

// Swaps a link between two targets while opening through it.
static void *rewrite_link(void *link) {
    char other[4096];
    snprintf(other, sizeof other, "%s.new", (char *)link);
    while (!stop) {
        symlink(second, other); rename(other, link);
        symlink(first, other); rename(other, link);
    }
    return NULL;
}

static void race_link(char **argv) { // LINK FIRST SECOND TIMES
    first = argv[3], second = argv[4];
    pthread_t rewriter;
    if (symlink(first, argv[2]) != 0) say("symlink", -1);
    pthread_create(&rewriter, NULL, rewrite_link, argv[2]);
    int seconds = 0;
    for (int i = 0; i < atoi(argv[5]); i++) {
        int fd = open(argv[2], O_RDONLY);
        char byte = 0;
        if (fd < 0) continue;
        if (read(fd, &byte, 1) == 1 && byte != 'p') seconds++;
        close(fd);
    }
    stop = 1;
    pthread_join(rewriter, NULL);
    printf("%d\n", seconds);
}

// ---- the sensor itself

static void attack(const char *cwd) {
    char path[256], name[64];
    watcher_path(path, sizeof path, "", "/mem");
    say("mem", open(path, O_RDONLY));
    watcher_path(path, sizeof path, "", "/environ");
    say("environ", open(path, O_RDONLY));
    watcher_path(path, sizeof path, "", "/task");
    say("task", open(path, O_RDONLY | O_DIRECTORY));
    // By a relative path, by a folder's descriptor, through a descriptor that reads nothing.
    if (chdir(cwd) != 0) say("chdir", -1);
    watcher_path(path, sizeof path, "../../../../../../../..", "/maps");
    say("relative", open(path, O_RDONLY));
    watcher_path(path, sizeof path, "", "");
    int folder = open(path, O_PATH | O_DIRECTORY);
    say("dirfd", openat(folder, "status", O_RDONLY));
    watcher_path(path, sizeof path, "", "/status");
    snprintf(name, sizeof name, "/proc/self/fd/%d", open(path, O_PATH));
    say("reopened", open(name, O_RDONLY));
    if (chdir("/proc") != 0) say("chdir", -1);
    snprintf(name, sizeof name, "%d/status", getppid());
    say("cwd", open(name, O_RDONLY));
}

static void signals(void) {
    int watcher = getppid();
    say("kill", kill(watcher, 0));
    say("tkill", syscall(SYS_tkill, watcher, 0));
    say("tgkill", syscall(SYS_tgkill, watcher, watcher, 0));
    say("pidfd_open", syscall(SYS_pidfd_open, watcher, 0));
    say("ptrace", ptrace(PTRACE_ATTACH, watcher, 0, 0));
    struct rlimit none = { 0, 0 };
    say("prlimit", prlimit(watcher, RLIMIT_CORE, &none, NULL));
}

static void refused(void) {
    char params[128] = { 0 };
    say("io_uring_setup", syscall(SYS_io_uring_setup, 1, params));
    say("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    say("unshare", unshare(CLONE_NEWUSER));
    say("bpf", syscall(SYS_bpf, 0, params, sizeof params));
    say("keyctl", syscall(SYS_keyctl, 0, 0, 0, 0));
    say("userfaultfd", syscall(SYS_userfaultfd, 0));
    say("clone3", syscall(SYS_clone3, params, 64));
    say("setns", syscall(SYS_setns, 0, 0));
    say("open_by_handle_at", syscall(SYS_open_by_handle_at, 0, params, 0));
    // What an installation does need.
    say("unshare files", unshare(CLONE_FILES));
    say("memfd_create", memfd_create("x", 0));
    say("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, (int *)params));
}

static void run_from_memory(const char *self) {
    char buffer[65536];
    char *argv[] = { "hidden", "say", "from memory", NULL };
    char *env[] = { NULL };
    int in = open(self, O_RDONLY), out = memfd_create("x", MFD_CLOEXEC);
    for (ssize_t n; (n = read(in, buffer, sizeof buffer)) > 0;) if (write(out, buffer, n) != n) say("write", -1);
    fexecve(out, argv, env);
    say("fexecve", -1);
}

static void run_dropped(const char *self, const char *dropped) {
    char buffer[65536];
    int in = open(self, O_RDONLY), out = open(dropped, O_WRONLY | O_CREAT, 0700);
    for (ssize_t n; (n = read(in, buffer, sizeof buffer)) > 0;) if (write(out, buffer, n) != n) say("write", -1);
    close(out);
    execl(dropped, "dropped", "say", "dropped", NULL);
    say("execl", -1);
}

static char *const true_argv[] = { "raced", NULL };

// A thread rewrites the program's path while children exec it.
static void race_exec(char **argv) {
    first = argv[2], second = argv[3];
    memcpy(raced, first, strlen(first) + 1);
    pthread_t rewriter;
    pthread_create(&rewriter, NULL, rewrite, NULL);
    int status = 0, seconds = 0;
    for (int i = 0; i < atoi(argv[4]); i++) {
        pid_t pid = vfork();
        if (pid == 0) { execv(raced, true_argv); _exit(7); }
        waitpid(pid, &status, 0);
        seconds += WIFEXITED(status) && WEXITSTATUS(status) == 1;
    }
    stop = 1;
    pthread_join(rewriter, NULL);
    printf("%d\n", seconds);
}

// ---- processes

static void daemonise(const char *file) {
    if (fork() != 0) _exit(0);
    setsid();
    if (fork() != 0) _exit(0);
    usleep(100000);
    show(open(file, O_RDONLY));
    for (;;) pause();
}

static void chain(int depth, const char *file) {
    for (; depth > 0; depth--) {
        pid_t pid = fork();
        if (pid < 0) { say("fork", -1); return; }
        if (pid != 0) { waitpid(pid, NULL, 0); return; }
    }
    show(open(file, O_RDONLY));
}

static void bomb(int processes, const char *folder) {
    char name[4096];
    int failed = 0;
    for (int i = 0; i < processes; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            snprintf(name, sizeof name, "%s/%d", folder, i % 8);
            int fd = open(name, O_WRONLY | O_CREAT, 0600);
            _exit(fd < 0);
        }
        if (pid < 0) { failed++; usleep(1000); }
        if (i % 50 == 49) while (waitpid(-1, NULL, WNOHANG) > 0) {}
    }
    int status;
    while (wait(&status) > 0) failed += status != 0;
    printf("failed %d\n", failed);
}

// Rewrites its own arguments, then reads.
static void forge(int argc, char **argv, const char *file) {
    char path[256], *end = argv[argc - 1] + strlen(argv[argc - 1]);
    snprintf(path, sizeof path, "%s", file);
    memset(argv[0], 0, end - argv[0]);
    strcpy(argv[0], "npm");
    strcpy(argv[0] + 4, "trusted");
    struct prctl_mm_map map;
    unsigned size = 0;
    say("move", prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0));
    say("move", prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0));
    say("personality", personality(ADDR_NO_RANDOMIZE));
    say("query", personality(0xffffffff) == -1 ? -1 : 0);
    // An exec that the kernel refuses makes nobody another program.
    execl(path, path, NULL);
    show(open(path, O_RDONLY));
    if (fork() == 0) { show(open(path, O_RDONLY)); _exit(0); }
    wait(NULL);
}

// A child that has lost its parent, its folder and its name before it does anything that is seen.
static void orphan(const char *file) {
    int parent = getpid();
    if (fork() != 0) _exit(0);
    while (getppid() == parent) usleep(1000);
    prctl(PR_SET_NAME, "git");
    if (chdir("/") != 0) say("chdir", -1);
    show(open(file, O_RDONLY));
}

// Copies itself to one file and runs another one, which names the copy as its interpreter.
static void run_interpreter(const char *self, const char *dropped, const char *script) {
    char buffer[65536];
    int in = open(self, O_RDONLY), out = open(dropped, O_WRONLY | O_CREAT, 0700);
    for (ssize_t n; (n = read(in, buffer, sizeof buffer)) > 0;) if (write(out, buffer, n) != n) say("write", -1);
    close(out);
    execl(script, script, NULL);
    say("execl", -1);
}

// A thread rewrites where a file is renamed to: how often it came out at the second place.
static void race_rename(char **argv) { // SOURCE FIRST SECOND TIMES
    first = argv[3], second = argv[4];
    memcpy(raced, first, strlen(first) + 1);
    pthread_t rewriter;
    pthread_create(&rewriter, NULL, rewrite, NULL);
    int seconds = 0;
    for (int i = 0; i < atoi(argv[5]); i++) {
        close(open(argv[2], O_WRONLY | O_CREAT, 0600));
        if (rename(argv[2], raced) != 0) continue;
        if (access(argv[4], F_OK) == 0) { seconds++; rename(argv[4], argv[2]); }
    }
    stop = 1;
    pthread_join(rewriter, NULL);
    printf("%d\n", seconds);
}

// Starts itself again and again in a folder with a long name, with long arguments.
static void deep(char **argv) { // DEPTH FILE PADDING
    char depth[16];
    if (atoi(argv[2]) == 0) { show(open(argv[3], O_RDONLY)); return; }
    snprintf(depth, sizeof depth, "%d", atoi(argv[2]) - 1);
    if (fork() == 0) { execl("./package", "package", "deep", depth, argv[3], argv[4], NULL); _exit(1); }
    wait(NULL);
}

// Names of all kinds of form: what the kernel would do.
static void names(const char *folder) {
    if (chdir(folder) != 0) say("chdir", -1);
    close(open("a", O_WRONLY | O_CREAT, 0600));
    say("mkdir", mkdir("d", 0700));
    int d = open("d", O_RDONLY | O_DIRECTORY);
    say("link", link("a", "d/b"));
    say("linkat", linkat(d, "b", AT_FDCWD, "./d/../c", 0));
    char name[64];
    int tmp = open(".", O_TMPFILE | O_RDWR, 0600);
    snprintf(name, sizeof name, "/proc/self/fd/%d", tmp);
    say("tmpfile", linkat(AT_FDCWD, name, AT_FDCWD, "t", AT_SYMLINK_FOLLOW));
    say("symlink", symlink("a", "s"));
    say("link to link", link("s", "s2"));
    say("still a link", readlink("s2", name, sizeof name));
    say("rename", rename("c", "d/c"));
    say("exchange", syscall(SYS_renameat2, AT_FDCWD, "a", d, "c", 2));
    say("no replace", syscall(SYS_renameat2, AT_FDCWD, "a", d, "c", 1));
    say("folder", rename("d/", "e/"));
    say("of a file", rename("a/", "f/"));
    say("dot", rename("e/.", "g"));
    say("missing", rename("nothing", "g"));
    say("empty", rename("", "g"));
    say("unlink folder", unlink("e"));
    say("rmdir full", rmdir("e"));
    say("unlinkat", unlinkat(d, "b", 0));
    say("unlink", unlink("e/c"));
    say("rmdir", rmdir("e/"));
    say("through file", unlink("a/x"));
    say("bad pointer", unlink((char *)8));
}

// ---- network

static struct sockaddr_in inet(const char *ip, const char *port) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}

static void talk(char **argv, int flags) {
    struct sockaddr_in to = inet(argv[2], argv[3]);
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    if (fd < 0) { say("socket", fd); return; }
    int result = connect(fd, (struct sockaddr *)&to, sizeof to);
    if (result < 0 && errno == EINPROGRESS) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(fd, &set);
        select(fd + 1, NULL, &set, NULL, NULL);
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
        errno = error;
        result = error ? -1 : 0;
    }
    say("connect", result);
    if (result < 0) return;
    if (send(fd, "hello", 5, 0) != 5) say("send", -1);
    say("again", connect(fd, (struct sockaddr *)&to, sizeof to));
    // The peer must see the end as soon as we close: nobody else may hold the connection.
    shutdown(fd, SHUT_WR);
    fcntl(fd, F_SETFL, 0);
    show(fd);
}

static void serve(void) {
    struct sockaddr_in at = inet("127.0.0.1", "0");
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    say("bind", bind(fd, (struct sockaddr *)&at, sizeof at));
    say("listen", listen(fd, 5));
    getsockname(fd, (struct sockaddr *)&at, &length);
    if (fork() == 0) {
        int client = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(client, (struct sockaddr *)&at, sizeof at) != 0) say("connect", -1);
        if (write(client, "hello", 5) != 5) say("write", -1);
        close(client);
        _exit(0);
    }
    int peer = accept(fd, NULL, NULL);
    show(peer);
    wait(NULL);
}

static struct sockaddr_in raced_address;
static void *rewrite_family(void *unused) {
    (void)unused;
    while (!stop) { raced_address.sin_family = AF_INET; raced_address.sin_family = AF_UNIX; }
    return NULL;
}

// The address of a connect changes its family: how often a connection came about.
static void race_connect(char **argv) {
    raced_address = inet(argv[2], argv[3]);
    pthread_t rewriter;
    pthread_create(&rewriter, NULL, rewrite_family, NULL);
    int got = 0;
    for (int i = 0; i < atoi(argv[4]); i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        got += connect(fd, (struct sockaddr *)&raced_address, sizeof raced_address) == 0;
        close(fd);
    }
    stop = 1;
    pthread_join(rewriter, NULL);
    printf("%d\n", got);
}

static void datagram(char **argv) { // IP PORT TEXT
    struct sockaddr_in to = inet(argv[2], argv[3]);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0) { say("socket", fd); return; }
    say("sendto", sendto(fd, argv[4], strlen(argv[4]), 0, (struct sockaddr *)&to, sizeof to));
}

static void ask_name(char **argv) { // PORT NAME, by hand, as no resolver reads another port
    unsigned char q[512] = { 0xab, 0xcd, 1, 0, 0, 1 }, answer[512];
    size_t at = 12;
    for (char *label = strtok(argv[3], "."); label; label = strtok(NULL, ".")) {
        q[at++] = strlen(label);
        memcpy(q + at, label, strlen(label));
        at += strlen(label);
    }
    q[at + 2] = q[at + 4] = 1;
    struct sockaddr_in to = inet("127.0.0.1", argv[2]);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    sendto(fd, q, at + 5, 0, (struct sockaddr *)&to, sizeof to);
    ssize_t n = recv(fd, answer, sizeof answer, 0);
    printf("rcode %d\n", n > 3 ? answer[3] & 15 : -1);
}

// Unix sockets: to a file outside by connect, by a path that changes, and by datagrams.
static struct sockaddr_un raced_unix;
static void *rewrite_unix(void *unused) {
    (void)unused;
    while (!stop) { memcpy(raced_unix.sun_path, second, strlen(second)); memcpy(raced_unix.sun_path, first, strlen(first)); }
    return NULL;
}

static void unix_sockets(char **argv) { // OWN OUTSIDE
    struct sockaddr_un own = { .sun_family = AF_UNIX }, outside = { .sun_family = AF_UNIX };
    strcpy(own.sun_path, argv[2]);
    strcpy(outside.sun_path, argv[3]);
    int server = socket(AF_UNIX, SOCK_STREAM, 0), pair[2];
    say("bind", bind(server, (struct sockaddr *)&own, sizeof own));
    say("listen", listen(server, 5));
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    say("own", connect(client, (struct sockaddr *)&own, sizeof own));
    if (write(client, "inside", 6) != 6) say("write", -1);
    close(client);
    show(accept(server, NULL, NULL));
    say("outside", connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&outside, sizeof outside));
    say("datagram", socket(AF_UNIX, SOCK_DGRAM, 0));
    say("raw", socket(AF_UNIX, SOCK_RAW, 0));
    say("datagram pair", socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair));
    say("stream pair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    say("pair outside", connect(pair[0], (struct sockaddr *)&outside, sizeof outside));
    first = argv[2], second = argv[3];
    raced_unix = own;
    fcntl(server, F_SETFL, O_NONBLOCK); // the very first connect may miss it
    pthread_t rewriter;
    pthread_create(&rewriter, NULL, rewrite_unix, NULL);
    for (int i = 0; i < 5000; i++) {
        client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(client, (struct sockaddr *)&raced_unix, sizeof raced_unix);
        close(client);
        int got = accept4(server, NULL, NULL, SOCK_NONBLOCK);
        if (got >= 0) close(got);
    }
    stop = 1;
    pthread_join(rewriter, NULL);
}

static void many_datagrams(char **argv) { // PORT PORT: the last of many messages goes to the second
    struct sockaddr_in to = inet("127.0.0.1", argv[2]), last = inet("127.0.0.1", argv[3]);
    struct mmsghdr messages[100] = { 0 };
    struct iovec text = { "x", 1 };
    for (int i = 0; i < 100; i++)
        messages[i].msg_hdr = (struct msghdr){ .msg_name = i == 99 ? &last : &to, .msg_namelen = sizeof to, .msg_iov = &text, .msg_iovlen = 1 };
    say("sendmmsg", sendmmsg(socket(AF_INET, SOCK_DGRAM, 0), messages, 100, 0));
}

// Connects to the name server, lets another process ask, and asks last of all by a plain write.
static void ask_late(const char *port) {
    unsigned char q[] = { 0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 'e', 'v', 'i', 'l', 0, 0, 1, 0, 1 };
    struct sockaddr_in to = inet("127.0.0.1", port);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    say("connect", connect(fd, (struct sockaddr *)&to, sizeof to));
    if (fork() == 0) {
        char name[] = "honest.name";
        char *asks[] = { "", "", (char *)port, name };
        execl("/proc/self/exe", "honest", "ask", asks[2], name, NULL);
    }
    wait(NULL);
    if (write(fd, q, sizeof q) != sizeof q) say("write", -1);
    if (read(fd, q, sizeof q) < 0) say("read", -1);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    if (is("mark", argv)) return 0;
    if (is("say", argv)) printf("%s\n", argv[2]);
    else if (is("read", argv)) show(open(argv[2], O_RDONLY));
    else if (is("openat", argv)) show(openat(open(argv[2], O_RDONLY | O_DIRECTORY), argv[3], O_RDONLY));
    else if (is("list", argv)) say("opendir", opendir(argv[2]) ? 0 : -1);
    else if (is("open", argv)) open_with(argv);
    else if (is("opath", argv)) through_path_descriptor(argv[2]);
    else if (is("bad pointer", argv)) say("open", open((char *)8, O_RDONLY));
    else if (is("page end", argv)) {
        char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(page + 4096, 4096);
        char *path = page + 4096 - strlen(argv[2]) - 1;
        strcpy(path, argv[2]);
        show(open(path, O_RDONLY));
        memset(page, 'a', 4096);
        say("unended", open(page + 1, O_RDONLY));
    }
    else if (is("link", argv)) { say("link", link(argv[2], argv[3])); show(open(argv[3], O_RDONLY)); }
    else if (is("rename", argv)) { say("rename", rename(argv[2], argv[3])); say("unlink", unlink(argv[3])); }
    else if (is("forge", argv)) forge(argc, argv, argv[2]);
    else if (is("orphan", argv)) orphan(argv[2]);
    else if (is("interpreter", argv)) run_interpreter(argv[0], argv[2], argv[3]);
    else if (is("race rename", argv)) race_rename(argv);
    else if (is("deep", argv)) deep(argv);
    else if (is("names", argv)) names(argv[2]);
    else if (is("unix", argv)) unix_sockets(argv);
    else if (is("many datagrams", argv)) many_datagrams(argv);
    else if (is("ask late", argv)) ask_late(argv[2]);
    else if (is("fifo", argv)) named_pipe(argv[2], argv[3]);
    else if (is("lease", argv)) say("lease", fcntl(open(argv[2], O_RDWR), F_SETLEASE, F_WRLCK));
    else if (is("race open", argv)) race_open(argv);
    else if (is("race openat2", argv)) race_openat2(argv[2], atoi(argv[3]));
    else if (is("race link", argv)) race_link(argv);
    else if (is("race exec", argv)) race_exec(argv);
    else if (is("race connect", argv)) race_connect(argv);
    else if (is("attack", argv)) attack(argv[2]);
    else if (is("signals", argv)) signals();
    else if (is("refused", argv)) refused();
    else if (is("undumpable", argv)) {
        say("prctl", prctl(PR_SET_DUMPABLE, 0));
        show(open(argv[2], O_RDONLY));
    }
    else if (is("exec", argv)) { execv(argv[2], argv + 2); say("exec", -1); }
    else if (is("memfd", argv)) run_from_memory(argv[0]);
    else if (is("drop", argv)) run_dropped(argv[0], argv[2]);
    else if (is("int80", argv)) {
#ifdef __x86_64__
        long result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory"); // getpid of the other ABI
        printf("alive %ld\n", result);
#endif
    }
    else if (is("x32", argv)) printf("alive %ld\n", syscall(0x40000000 | SYS_getpid));
    else if (is("daemon", argv)) daemonise(argv[2]);
    else if (is("stay", argv)) { show(open(argv[2], O_RDONLY)); for (;;) { usleep(20000); int fd = open(argv[2], O_RDONLY); if (fd < 0) { say("open", fd); return 7; } close(fd); } }
    else if (is("chain", argv)) chain(atoi(argv[2]), argv[3]);
    else if (is("bomb", argv)) bomb(atoi(argv[2]), argv[3]);
    else if (is("setuid", argv)) say("setuid", setuid(atoi(argv[2]) < 0 ? getuid() : atoi(argv[2])));
    else if (is("connect", argv)) talk(argv, 0);
    else if (is("connect later", argv)) talk(argv, SOCK_NONBLOCK);
    else if (is("serve", argv)) serve();
    else if (is("datagram", argv)) datagram(argv);
    else if (is("ask", argv)) ask_name(argv);
    else if (is("netlink", argv)) say("socket", socket(AF_NETLINK, SOCK_RAW, 0));
    else if (is("raw", argv)) { say("raw", socket(AF_INET, SOCK_RAW, 1)); say("packet", socket(AF_PACKET, SOCK_RAW, 0)); }
    else if (is("device", argv)) {
        char name[16] = "";
        socklen_t length = sizeof name;
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &length);
        printf("%s\n", name);
        say("unbind", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "", 0));
    }
    else if (is("unspec", argv)) {
        struct sockaddr none = { .sa_family = AF_UNSPEC };
        say("connect", connect(socket(AF_INET, SOCK_STREAM, 0), &none, sizeof none));
    }
    else return 2;
    return 0;
}
