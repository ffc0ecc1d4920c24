/*
 * Loaded into a server, writes down in one order what it does to its log and what it says to its clients,
 * and lets the log's disk fail, hang or lie when it is told so. See ../src/shim.rs, which reads the trace.
 *
 * The trace is a file that both sides map or read: a page of switches, then records. A record of something
 * that is about to happen stands there before it happens, and one of something that happened is written
 * after it did; so whatever stands before an act in the trace came before it in time. Records are added
 * under a lock and counted once they are complete: a kill at any moment leaves whole records, and at most
 * the last acts of each thread without their result.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE, WRITTEN, SYNC, SYNCED, DIR_SYNC, DIR_SYNCED, SEND, ACCEPT, CLOSE, TRUNCATE, UNLINK, FAILED };
/* Bits of lie and hang. */
enum { DATA_SYNCS = 1, DIRECTORY_SYNCS = 2 };
enum { NOTHING, TRACKED, DIRECTORY, CLIENT };

/* The page of switches; all offsets are known to shim.rs. */
struct head {
    _Atomic uint64_t end;       /* where the next record goes */
    _Atomic uint32_t full;      /* the trace had no room for a record */
    _Atomic uint32_t lie;       /* which syncs are left out */
    _Atomic uint32_t hang;      /* while set, which syncs wait */
    _Atomic uint32_t hung;      /* syncs that are waiting for that */
    _Atomic int32_t fail_sync;  /* 1: the next sync of a log fails; n: the nth from now */
    _Atomic int32_t fail_write; /* likewise, a write to a log */
    _Atomic int32_t fail_dir;   /* likewise, a sync of the logs' directory */
};

struct record {
    uint32_t size; /* with payload and padding */
    uint32_t kind;
    int32_t fd;
    uint32_t length; /* of the payload */
    _Atomic int64_t result;
    uint64_t offset; /* in the file, or of the record that this one ends */
};

#define UNDER_WAY INT64_MIN
#define FDS 65536

static struct head *head;
static uint64_t room;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic unsigned char kinds[FDS];
/* Logs fail and hang; the mark beside them is only watched. */
static _Atomic unsigned char is_log[FDS];

#define REAL(name, type, ...)                                     \
    static type (*real)(__VA_ARGS__);                             \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

__attribute__((constructor)) static void map_trace(void) {
    const char *path = getenv("ZOOID_SHIM_TRACE");
    if (!path) return;
    int (*open_it)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    int fd = open_it(path, O_RDWR | O_CLOEXEC);
    struct stat stat;
    if (fd < 0 || fstat(fd, &stat) != 0) {
        fprintf(stderr, "shim: cannot open %s: %s\n", path, strerror(errno));
        abort();
    }
    void *at = mmap(NULL, stat.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) abort();
    room = stat.st_size;
    head = at;
}

static unsigned char kind_of(int fd) { return head && fd >= 0 && fd < FDS ? kinds[fd] : NOTHING; }

/* The record's place in the trace, 0 if there is none. */
static uint64_t add(uint32_t kind, int fd, int64_t result, uint64_t offset, const struct iovec *parts, int count) {
    uint64_t length = 0;
    for (int i = 0; i < count; i++) length += parts[i].iov_len;
    uint64_t size = (sizeof(struct record) + length + 7) & ~7ull;
    pthread_mutex_lock(&lock);
    uint64_t at = head->end;
    if (at + size > room) {
        head->full = 1;
        pthread_mutex_unlock(&lock);
        return 0;
    }
    struct record *record = (struct record *)((char *)head + at);
    record->size = size;
    record->kind = kind;
    record->fd = fd;
    record->length = length;
    record->result = result;
    record->offset = offset;
    char *to = (char *)(record + 1);
    for (int i = 0; i < count; i++) {
        memcpy(to, parts[i].iov_base, parts[i].iov_len);
        to += parts[i].iov_len;
    }
    head->end = at + size;
    pthread_mutex_unlock(&lock);
    return at;
}

static uint64_t note(uint32_t kind, int fd, int64_t result, uint64_t offset) {
    return add(kind, fd, result, offset, NULL, 0);
}

static uint64_t note_bytes(uint32_t kind, int fd, uint64_t offset, const void *bytes, size_t length) {
    struct iovec part = {(void *)bytes, length};
    return add(kind, fd, UNDER_WAY, offset, &part, 1);
}

static void finish(uint64_t at, int64_t result) {
    if (at) ((struct record *)((char *)head + at))->result = result;
}

/* Whether this is the one that shall fail. */
static int is_up(_Atomic int32_t *countdown) {
    return *countdown > 0 && atomic_fetch_sub(countdown, 1) == 1;
}

/* ---- files ---- */

static int ends_with(const char *path, const char *end) {
    size_t a = strlen(path), b = strlen(end);
    return a >= b && strcmp(path + a - b, end) == 0;
}

static int on_open(int fd, const char *path, int flags) {
    if (!head || fd < 0 || fd >= FDS) return fd;
    int log = strstr(path, "/version-2/log.") != NULL;
    unsigned char kind = NOTHING;
    if (log || ends_with(path, "/version-2/durable.zooid")) kind = TRACKED;
    else if (ends_with(path, "/version-2")) kind = DIRECTORY;
    is_log[fd] = log;
    kinds[fd] = kind;
    if (kind != NOTHING) {
        struct iovec part = {(void *)path, strlen(path)};
        add(OPEN, fd, fd, flags & (O_CREAT | O_TRUNC), &part, 1);
    }
    return fd;
}

#define MODE(flags)                            \
    mode_t mode = 0;                           \
    if (flags & (O_CREAT | O_TMPFILE)) {       \
        va_list arguments;                     \
        va_start(arguments, flags);            \
        mode = va_arg(arguments, mode_t);      \
        va_end(arguments);                     \
    }

int open(const char *path, int flags, ...) {
    REAL("open", int, const char *, int, ...);
    MODE(flags)
    return on_open(real(path, flags, mode), path, flags);
}

int open64(const char *path, int flags, ...) {
    REAL("open64", int, const char *, int, ...);
    MODE(flags)
    return on_open(real(path, flags, mode), path, flags);
}

int openat(int dir, const char *path, int flags, ...) {
    REAL("openat", int, int, const char *, int, ...);
    MODE(flags)
    return on_open(real(dir, path, flags, mode), path, flags);
}

int openat64(int dir, const char *path, int flags, ...) {
    REAL("openat64", int, int, const char *, int, ...);
    MODE(flags)
    return on_open(real(dir, path, flags, mode), path, flags);
}

int close(int fd) {
    REAL("close", int, int);
    if (kind_of(fd) != NOTHING) {
        kinds[fd] = NOTHING;
        note(CLOSE, fd, 0, 0);
    }
    return real(fd);
}

int unlink(const char *path) {
    REAL("unlink", int, const char *);
    if (head && strstr(path, "/version-2/log.")) note_bytes(UNLINK, -1, 0, path, strlen(path));
    return real(path);
}

static int on_truncate(int fd, off64_t length, int (*real)(int, off64_t)) {
    if (kind_of(fd) == TRACKED) note(TRUNCATE, fd, 0, length);
    return real(fd, length);
}

int ftruncate(int fd, off_t length) {
    REAL("ftruncate", int, int, off64_t);
    return on_truncate(fd, length, real);
}

int ftruncate64(int fd, off64_t length) {
    REAL("ftruncate64", int, int, off64_t);
    return on_truncate(fd, length, real);
}

static ssize_t on_pwrite(int fd, const void *bytes, size_t length, off64_t offset,
                         ssize_t (*real)(int, const void *, size_t, off64_t)) {
    if (kind_of(fd) != TRACKED) return real(fd, bytes, length, offset);
    uint64_t at = note_bytes(WRITE, fd, offset, bytes, length);
    if (is_log[fd] && is_up(&head->fail_write)) {
        note(FAILED, fd, EIO, at);
        errno = EIO;
        return -1;
    }
    ssize_t result = real(fd, bytes, length, offset);
    int error = errno;
    note(WRITTEN, fd, result, at);
    errno = error;
    return result;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    REAL("pwrite", ssize_t, int, const void *, size_t, off64_t);
    return on_pwrite(fd, bytes, length, offset, real);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    REAL("pwrite64", ssize_t, int, const void *, size_t, off64_t);
    return on_pwrite(fd, bytes, length, offset, real);
}

static int on_sync(int fd, int (*real)(int)) {
    unsigned char kind = kind_of(fd);
    if (kind != TRACKED && kind != DIRECTORY) return real(fd);
    int directory = kind == DIRECTORY;
    uint32_t bit = directory ? DIRECTORY_SYNCS : DATA_SYNCS;
    if (head->lie & bit) return 0;
    uint64_t at = note(directory ? DIR_SYNC : SYNC, fd, UNDER_WAY, 0);
    if ((is_log[fd] || directory) && head->hang & bit) {
        atomic_fetch_add(&head->hung, 1);
        while (head->hang & bit) usleep(1000);
        atomic_fetch_sub(&head->hung, 1);
    }
    if (directory ? is_up(&head->fail_dir) : is_log[fd] && is_up(&head->fail_sync)) {
        note(FAILED, fd, EIO, at);
        errno = EIO;
        return -1;
    }
    int result = real(fd);
    int error = errno;
    note(directory ? DIR_SYNCED : SYNCED, fd, result, at);
    errno = error;
    return result;
}

int fdatasync(int fd) {
    REAL("fdatasync", int, int);
    return on_sync(fd, real);
}

int fsync(int fd) {
    REAL("fsync", int, int);
    return on_sync(fd, real);
}

/* ---- clients ---- */

static int on_accept(int fd) {
    if (head && fd >= 0 && fd < FDS) {
        kinds[fd] = CLIENT;
        note(ACCEPT, fd, fd, 0);
    }
    return fd;
}

int accept(int fd, struct sockaddr *address, socklen_t *length) {
    REAL("accept", int, int, struct sockaddr *, socklen_t *);
    return on_accept(real(fd, address, length));
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    REAL("accept4", int, int, struct sockaddr *, socklen_t *, int);
    return on_accept(real(fd, address, length, flags));
}

static ssize_t sent(uint64_t at, ssize_t result) {
    finish(at, result);
    return result;
}

ssize_t send(int fd, const void *bytes, size_t length, int flags) {
    REAL("send", ssize_t, int, const void *, size_t, int);
    if (kind_of(fd) != CLIENT) return real(fd, bytes, length, flags);
    uint64_t at = note_bytes(SEND, fd, 0, bytes, length);
    return sent(at, real(fd, bytes, length, flags));
}

ssize_t write(int fd, const void *bytes, size_t length) {
    REAL("write", ssize_t, int, const void *, size_t);
    if (kind_of(fd) != CLIENT) return real(fd, bytes, length);
    uint64_t at = note_bytes(SEND, fd, 0, bytes, length);
    return sent(at, real(fd, bytes, length));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL("writev", ssize_t, int, const struct iovec *, int);
    if (kind_of(fd) != CLIENT) return real(fd, parts, count);
    uint64_t at = add(SEND, fd, UNDER_WAY, 0, parts, count);
    return sent(at, real(fd, parts, count));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    REAL("sendmsg", ssize_t, int, const struct msghdr *, int);
    if (kind_of(fd) != CLIENT) return real(fd, message, flags);
    uint64_t at = add(SEND, fd, UNDER_WAY, 0, message->msg_iov, message->msg_iovlen);
    return sent(at, real(fd, message, flags));
}
