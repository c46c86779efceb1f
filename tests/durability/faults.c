/* Loaded before libc (LD_PRELOAD): the n-th call that writes, syncs or renames below a folder fails with an error.
 *
 * Counts write, pwrite, writev, sendfile, copy_file_range (kind 1), fsync and fdatasync (2), rename, renameat2 and link
 * (4); of whatever language, since all reach the disk through these. Nothing is counted until fault_arm was called. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static int kinds, error_number;
static long failing, counted;
static int hit;

/* Count calls of `wanted` kinds below `folder` from now on, and let number `n` fail; 0 lets none fail. */
void fault_arm(const char *folder, int wanted, long n, int number) {
    strncpy(root, folder, sizeof root - 1);
    kinds = wanted, failing = n, error_number = number, counted = 0, hit = 0;
}

long fault_counted(void) { return counted; }
int fault_hit(void) { return hit; }

static int below(const char *path) {
    size_t length = strlen(root);
    return length && strncmp(path, root, length) == 0 && (path[length] == '/' || !path[length]);
}

static int fails(int kind, const char *path) {
    if (!(kinds & kind) || !below(path)) return 0;
    if (++counted != failing) return 0;
    hit = 1;
    errno = error_number;
    return 1;
}

static int fails_open(int kind, int descriptor) {
    char name[64], path[PATH_MAX];
    if (!(kinds & kind)) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(kind, path);
}

#define NEXT(result, name, ...) \
    static result (*next)(__VA_ARGS__); \
    if (!next) next = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t size) {
    NEXT(ssize_t, "write", int, const void *, size_t);
    return fails_open(1, fd) ? -1 : next(fd, data, size);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    NEXT(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    return fails_open(1, fd) ? -1 : next(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    NEXT(ssize_t, "writev", int, const struct iovec *, int);
    return fails_open(1, fd) ? -1 : next(fd, parts, count);
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t size) {
    NEXT(ssize_t, "sendfile64", int, int, off64_t *, size_t);
    return fails_open(1, out) ? -1 : next(out, in, at, size);
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    NEXT(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    return fails_open(1, out) ? -1 : next(in, from, out, to, size, flags);
}
int fsync(int fd) {
    NEXT(int, "fsync", int);
    return fails_open(2, fd) ? -1 : next(fd);
}
int fdatasync(int fd) {
    NEXT(int, "fdatasync", int);
    return fails_open(2, fd) ? -1 : next(fd);
}
int rename(const char *from, const char *to) {
    NEXT(int, "rename", const char *, const char *);
    return fails(4, to) ? -1 : next(from, to);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    NEXT(int, "renameat2", int, const char *, int, const char *, unsigned);
    return fails(4, to) ? -1 : next(a, from, b, to, flags);
}
int link(const char *from, const char *to) {
    NEXT(int, "link", const char *, const char *);
    return fails(4, to) ? -1 : next(from, to);
}
