/* What a RUN reaches from namespaces that it makes itself: all kinds at once, and every file system that mounts there.

   Prints "refused KIND" for each kind of namespace, "mounted TYPE" for each type of file system, and "writable FILE" for
   each file in them that governs processes outside, which is opened and left alone. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct { const char *name; int flag; } kinds[] = {
    {"mount", CLONE_NEWNS}, {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS},   {"net", CLONE_NEWNET},
    {"pid", CLONE_NEWPID},  {"time", 0x80},        {"cgroup", CLONE_NEWCGROUP},
};

static int put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd < 0) return -1;
    int done = write(fd, text, strlen(text));
    close(fd);
    return done;
}

static void look(const char *folder, int depth) {
    static const char *names[] = {"cgroup.kill", "cgroup.freeze", "freezer.state", "release_agent", "notify_on_release",
                                  "memory.max", "pids.max", "devices.allow", "uevent_helper", "core_pattern"};
    char path[4096];
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        int fd = open(path, O_WRONLY);
        if (fd >= 0) printf("writable %s\n", path), close(fd);
    }
    DIR *dir = depth ? opendir(folder) : NULL;
    struct dirent *entry;
    while (dir && (entry = readdir(dir)))
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name), look(path, depth - 1);
    if (dir) closedir(dir);
}

static void try_mount(const char *type, const char *options) {
    char target[256];
    snprintf(target, sizeof target, "/tmp/nest/%s%s", type, options);
    mkdir(target, 0755);
    if (mount("none", target, type, 0, options)) return;
    printf("mounted %s%s%s\n", type, *options ? " " : "", options);
    look(target, 3);
}

/* clone3 takes its flags from memory, which a system call filter cannot read. */
static int cgroup_by_clone3(void) {
    unsigned long arguments[11] = {CLONE_NEWCGROUP, 0, 0, 0, SIGCHLD};
    long child = syscall(435, arguments, sizeof arguments);
    if (!child) _exit(0);
    if (child > 0) waitpid(child, NULL, 0);
    return child > 0;
}

static int cgroup_by_clone(void) {
    long child = syscall(SYS_clone, CLONE_NEWCGROUP | SIGCHLD, 0, 0, 0, 0);
    if (!child) _exit(0);
    if (child > 0) waitpid(child, NULL, 0);
    return child > 0;
}

/* The other ways to the same call that a kernel may offer. In a child each: a kernel without them may kill it. */
static int cgroup_by_other_abi(int which) {
    pid_t child = fork();
    int status;
    if (!child) {
        long result = -1;
#ifdef __x86_64__
        if (which) result = syscall(272 | 0x40000000, CLONE_NEWCGROUP);
        else __asm__ volatile("int $0x80" : "=a"(result) : "a"(310), "b"(CLONE_NEWCGROUP) : "memory", "r8", "r9", "r10", "r11");
#endif
        _exit((int)result != 0);
    }
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (unshare(CLONE_NEWUSER)) return puts("refused user"), 0;
    put("/proc/self/setgroups", "deny");
    put("/proc/self/uid_map", "0 0 1");
    put("/proc/self/gid_map", "0 0 1");
    if (cgroup_by_clone3()) puts("made cgroup by clone3");
    if (cgroup_by_clone()) puts("made cgroup by clone");
    if (cgroup_by_other_abi(0)) puts("made cgroup by i386");
    if (cgroup_by_other_abi(1)) puts("made cgroup by x32");
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (unshare(kinds[i].flag)) printf("refused %s: %s\n", kinds[i].name, strerror(errno));
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) perror("private");
    pid_t child = fork(); /* into the new PID namespace, which a new /proc is for */
    if (child) return waitpid(child, NULL, 0), 0;
    mkdir("/tmp", 0777), mkdir("/tmp/nest", 0777);
    FILE *types = fopen("/proc/filesystems", "r");
    char line[256], type[128];
    while (types && fgets(line, sizeof line, types))
        if (sscanf(line, "nodev %127s", type) == 1) try_mount(type, "");
    static const char *controllers[] = {"freezer", "memory", "pids", "devices", "cpuset", "none,name=systemd"};
    for (unsigned i = 0; i < sizeof controllers / sizeof *controllers; i++) try_mount("cgroup", controllers[i]);
    return 0;
}
