/*
 * A disk that is recorded and that fails on command: a library for LD_PRELOAD, see disk.py.
 *
 * Files below the folder DISK_FOLDER are the disk's. What a process does to them by write, pwrite,
 * pwritev, ftruncate, fsync, fdatasync, open with O_CREAT, mkdir, rename and unlink goes into the
 * file DISK_LOG, with contents, where that is set. DISK_CONTROL is a file of `struct control`,
 * which all processes map: the test writes into it which faults there are now. A file with the name
 * "marker" is recorded and never fails.
 *
 * Paths must be absolute. Memory maps are not seen: SQLite maps its -shm, which is of no use after
 * a power cut. Descriptors that were duplicated or inherited are not seen either.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* disk.py writes the first six by their order. */
struct control {
    int32_t sync_delay;   /* milliseconds that every fsync takes longer */
    int32_t sync_errno;   /* what a failing fsync says; 0: EIO */
    int32_t sync_left;    /* fsyncs that will fail; negative: all */
    int32_t write_errno;  /* the same for write, ftruncate; EROFS: for open, mkdir, unlink, too */
    int32_t write_left;
    int32_t failed;       /* calls that were made to fail so far */
    int32_t lock;         /* of the log, over all processes */
    int32_t last_id;      /* of an open file */
};

enum op { OPEN = 1, WRITE, TRUNCATE, SYNC, SYNCED, MKDIR, UNLINK, RENAME, FOLDER };

/* disk.py reads it as "<BiQqII"; then come the path and the data. */
struct __attribute__((packed)) record {
    uint8_t op;
    int32_t result;  /* of a sync: 0, or -1 */
    uint64_t id;     /* of the open file */
    int64_t offset;  /* or the length of a truncate, or the id of a sync's beginning */
    uint32_t path_size, data_size;
};

#define FILES 65536
static int32_t ids[FILES]; /* descriptor -> id of the open file; 0: none of ours */
static uint8_t is_marker[FILES]; /* of no fault */
static const char *folder;
static size_t folder_size;
static int log_file = -1;
static struct control *control;
static struct control no_faults;
static _Thread_local int64_t busy; /* nanoseconds */

#define REAL(name) \
    static typeof(name) *real; \
    if (!real) real = (typeof(name) *)dlsym(RTLD_NEXT, #name)

static int real_open(const char *path, int flags, mode_t mode)
{
    static int (*real)(const char *, int, ...);
    if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    return real(path, flags, mode);
}

__attribute__((constructor)) static void begin(void)
{
    const char *log_path = getenv("DISK_LOG"), *control_path = getenv("DISK_CONTROL");
    int file = control_path ? real_open(control_path, O_RDWR | O_CLOEXEC, 0) : -1;
    control = &no_faults;
    if (file >= 0) {
        void *there = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (there != MAP_FAILED) control = there;
        close(file);
    }
    if (log_path) log_file = real_open(log_path, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
    /* A copy: a program that sets its title writes over its environment. */
    folder = getenv("DISK_FOLDER") ? strdup(getenv("DISK_FOLDER")) : NULL;
    folder_size = folder ? strlen(folder) : 0;
}

static int is_ours(const char *path)
{
    return folder_size && strncmp(path, folder, folder_size) == 0
        && (path[folder_size] == '/' || !path[folder_size]);
}

static int ends_with(const char *path, const char *end)
{
    size_t size = strlen(path);
    return size >= strlen(end) && strcmp(path + size - strlen(end), end) == 0;
}

static int id_of(int file)
{
    return file >= 0 && file < FILES ? ids[file] : 0;
}

static void take_lock(void)
{
    while (__atomic_exchange_n(&control->lock, 1, __ATOMIC_ACQUIRE)) sched_yield();
}

static void let_go(void)
{
    __atomic_store_n(&control->lock, 0, __ATOMIC_RELEASE);
}

/* One record; who calls it holds the lock. */
static void note(enum op op, int result, int id, int64_t offset, const char *path,
                 const struct iovec *data, int count)
{
    struct record head = {op, result, (uint64_t)id, offset, path ? strlen(path) : 0, 0};
    struct iovec parts[2 + 64] = {{&head, sizeof head}, {(void *)path, head.path_size}};
    REAL(writev);
    if (log_file < 0) return;
    for (int n = 0; n < count && n < 64; n++) {
        parts[2 + n] = data[n];
        head.data_size += data[n].iov_len;
    }
    if (real(log_file, parts, 2 + count) < 0) abort();
}

/* Whether this call fails now; sets errno. */
static int fails(int32_t *left, int32_t error)
{
    int32_t now = __atomic_load_n(left, __ATOMIC_SEQ_CST);
    while (now > 0 && !__atomic_compare_exchange_n(
        left, &now, now - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {}
    if (!now) return 0;
    __atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST);
    errno = error ? error : EIO;
    return 1;
}

static int write_fails(int file)
{
    return !is_marker[file] && fails(&control->write_left, control->write_errno);
}

/* Of all errors of a write, only that of a read-only disk comes from calls with a path, too. */
static int path_fails(void)
{
    return control->write_errno == EROFS && fails(&control->write_left, EROFS);
}

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* Nanoseconds that the calling thread has spent in fsyncs of the disk's files. */
int64_t disk_busy(void)
{
    return busy;
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    mode_t mode = 0;
    int file, writes = (flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    if (!is_ours(path)) return real_open(path, flags, mode);
    if (writes && !ends_with(path, "/marker") && path_fails()) return -1;
    take_lock();
    file = real_open(path, flags, mode);
    if (file >= 0 && file < FILES) {
        struct stat status;
        int error = errno;
        ids[file] = ++control->last_id;
        is_marker[file] = ends_with(path, "/marker");
        fstat(file, &status);
        note(S_ISDIR(status.st_mode) ? FOLDER : OPEN, 0, ids[file], 0, path, NULL, 0);
        if (flags & O_TRUNC) note(TRUNCATE, 0, ids[file], 0, NULL, NULL, 0);
        errno = error;
    }
    let_go();
    return file;
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    mode_t mode;
    va_start(rest, flags);
    mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open64(path, flags, mode);
}

int close(int file)
{
    REAL(close);
    if (file >= 0 && file < FILES) ids[file] = 0;
    return real(file);
}

static ssize_t written(int file, int64_t offset, const struct iovec *data, int count, ssize_t done)
{
    /* A short write would need its data cut; a regular file has none but on a full disk. */
    size_t whole = 0;
    for (int n = 0; n < count; n++) whole += data[n].iov_len;
    if (done > 0 && (size_t)done == whole) note(WRITE, 0, ids[file], offset, NULL, data, count);
    else if (done > 0) {
        struct iovec cut = {data[0].iov_base, (size_t)done};
        if ((size_t)done > data[0].iov_len) abort();
        note(WRITE, 0, ids[file], offset, NULL, &cut, 1);
    }
    return done;
}

ssize_t pwrite64(int file, const void *data, size_t size, off_t offset)
{
    struct iovec one = {(void *)data, size};
    ssize_t done;
    REAL(pwrite64);
    if (!id_of(file)) return real(file, data, size, offset);
    if (write_fails(file)) return -1;
    take_lock();
    done = written(file, offset, &one, 1, real(file, data, size, offset));
    let_go();
    return done;
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset)
{
    return pwrite64(file, data, size, offset);
}

ssize_t pwritev64(int file, const struct iovec *data, int count, off_t offset)
{
    ssize_t done;
    REAL(pwritev64);
    if (!id_of(file)) return real(file, data, count, offset);
    if (write_fails(file)) return -1;
    take_lock();
    done = written(file, offset, data, count, real(file, data, count, offset));
    let_go();
    return done;
}

ssize_t pwritev(int file, const struct iovec *data, int count, off_t offset)
{
    return pwritev64(file, data, count, offset);
}

ssize_t write(int file, const void *data, size_t size)
{
    struct iovec one = {(void *)data, size};
    ssize_t done;
    REAL(write);
    if (!id_of(file)) return real(file, data, size);
    if (write_fails(file)) return -1;
    take_lock();
    done = real(file, data, size);
    written(file, lseek(file, 0, SEEK_CUR) - (done > 0 ? done : 0), &one, 1, done);
    let_go();
    return done;
}

int ftruncate64(int file, off_t size)
{
    int done;
    REAL(ftruncate64);
    if (!id_of(file)) return real(file, size);
    if (write_fails(file)) return -1;
    take_lock();
    done = real(file, size);
    if (!done) note(TRUNCATE, 0, ids[file], size, NULL, NULL, 0);
    let_go();
    return done;
}

int ftruncate(int file, off_t size)
{
    return ftruncate64(file, size);
}

static int synced(int file, int (*real)(int))
{
    int done, id = id_of(file), begun;
    int64_t since = nanoseconds();
    if (!id) return real(file);
    take_lock();
    begun = ++control->last_id;
    note(SYNC, 0, id, begun, NULL, NULL, 0);
    let_go();
    if (control->sync_delay) {
        struct timespec wait = {control->sync_delay / 1000, control->sync_delay % 1000 * 1000000l};
        nanosleep(&wait, NULL);
    }
    done = fails(&control->sync_left, control->sync_errno) ? -1 : real(file);
    int error = errno;
    take_lock();
    note(SYNCED, done, id, begun, NULL, NULL, 0);
    let_go();
    busy += nanoseconds() - since;
    errno = error;
    return done;
}

int fsync(int file)
{
    REAL(fsync);
    return synced(file, real);
}

int fdatasync(int file)
{
    REAL(fdatasync);
    return synced(file, real);
}

/* `call` on `path`, and its record. */
#define OF_A_PATH(op, path, call, data, count) \
    do { \
        int done; \
        if (!is_ours(path)) return call; \
        if (path_fails()) return -1; \
        take_lock(); \
        done = call; \
        if (!done) note(op, 0, 0, 0, path, data, count); \
        let_go(); \
        return done; \
    } while (0)

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    OF_A_PATH(MKDIR, path, real(path, mode), NULL, 0);
}

int unlink(const char *path)
{
    REAL(unlink);
    OF_A_PATH(UNLINK, path, real(path), NULL, 0);
}

int rename(const char *from, const char *to)
{
    struct iovec target = {(void *)to, strlen(to)};
    REAL(rename);
    OF_A_PATH(RENAME, from, real(from, to), &target, 1);
}
