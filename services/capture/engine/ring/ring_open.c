/*
 * ring_open.c: making, opening and sharing the ring's file. It runs while the
 * server starts, when there is time for questions: every refusal says what is
 * wrong and what to do about it.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "ring_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

/* A file that was opened, and what is known of it. */
typedef struct ring_file {
	int fd;
	bool created; /* by us, just now */
	struct stat st;
	weir_header header; /* as it was when we looked; zero where the file was shorter */
} ring_file;

typedef struct failure {
	char *text;
	size_t size;
} failure;

__attribute__((format(printf, 2, 3))) static bool
fail(const failure *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why->text, why->size, format, args);
	va_end(args);
	return false;
}

static uint64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* check_in_memory refuses a file that the kernel would write to a disk. */
static bool
check_in_memory(const char *path, int fd, const failure *why)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) != 0)
		return fail(why, "asking for the file system of %s: %m", path);
	if ((uint32_t)fs.f_type != TMPFS_MAGIC && (uint32_t)fs.f_type != RAMFS_MAGIC)
		return fail(why,
			    "%s is not in memory: the ring holds statements in clear text, which must not touch a disk; "
			    "set weir.ring_file to a path on a tmpfs, such as one under /dev/shm",
			    path);
	return true;
}

/*
 * take_server_lock holds byte 0 for this process and all that it forks. The
 * kernel frees it when the last of them is gone, which is how capture knows.
 */
static bool
take_server_lock(const char *path, int fd, const failure *why)
{
	struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
	int32_t pid = 0;

	if (fcntl(fd, F_OFD_SETLK, &range) == 0)
		return true;
	if (errno != EAGAIN && errno != EACCES)
		return fail(why, "locking %s: %m", path);
	if (pread(fd, &pid, sizeof pid, offsetof(weir_header, server_pid)) != (ssize_t)sizeof pid)
		pid = 0;
	return fail(why,
		    "%s is held by another server (process %d, or a child of it that is still running); "
		    "stop that server, or give each server a weir.ring_file of its own",
		    path, (int)pid);
}

/* allocate makes the file so long and reserves the memory, so that no later write can fail. */
static bool
allocate(const char *path, int fd, uint64_t data_size, const failure *why)
{
	struct statfs fs;
	unsigned long long free_mib = 0;
	int rc;

	do
		rc = posix_fallocate(fd, 0, (off_t)(WEIR_RING_HEADER_SIZE + data_size));
	while (rc == EINTR);
	if (rc == 0)
		return true;
	errno = rc;
	if (rc != ENOSPC && rc != ENOMEM && rc != EFBIG && rc != EDQUOT)
		return fail(why, "allocating %llu bytes for %s: %m", (unsigned long long)data_size, path);
	if (fstatfs(fd, &fs) == 0)
		free_mib = (unsigned long long)fs.f_bavail * (unsigned long long)fs.f_bsize >> 20;
	return fail(why,
		    "no room for a ring of %llu MiB at %s (%llu MiB are free there): give it more memory "
		    "(shm_size in docker compose, --shm-size for docker run, size= for a tmpfs mount), or lower weir.ring_size",
		    (unsigned long long)(data_size >> 20), path, free_mib);
}

/*
 * forget_dead_capture takes back "healthy" where the capture that said so is
 * gone: a server that fails closed starts closed. A capture that comes at this
 * very moment takes its lock first, and says how the path is later.
 */
static void
forget_dead_capture(weir_header *h, int fd)
{
	struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};

	if (fcntl(fd, F_OFD_GETLK, &range) == 0 && range.l_type == F_UNLCK)
		STORE(h->path, WEIR_PATH_UNKNOWN);
}

static bool
map(weir_ring *ring, const char *path, int fd, uint64_t data_size, const failure *why)
{
	size_t size = WEIR_RING_HEADER_SIZE + data_size;
	uint8_t *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (base == MAP_FAILED)
		return fail(why, "mapping %s: %m", path);
	/* Core dumps go to disks. A kernel that does not know the advice has the file in memory all the same. */
	(void)madvise(base, size, MADV_DONTDUMP);
	ring->header = (weir_header *)(void *)base;
	ring->data = base + WEIR_RING_HEADER_SIZE;
	ring->data_size = data_size;
	ring->fd = fd;
	return true;
}

/* share lets the group of capture read and write the file, and nobody else. */
static bool
share(const weir_ring_options *o, int fd, const failure *why)
{
	if (o->group >= 0 && fchown(fd, (uid_t)-1, (gid_t)o->group) != 0)
		return fail(why,
			    "giving %s to group %lld: %m; the server's user must be a member of that group "
			    "(log in again, or restart the server's service, after adding it)",
			    o->path, (long long)o->group);
	if (fchmod(fd, 0660) != 0)
		return fail(why, "setting the permissions of %s: %m", o->path);
	return true;
}

/* introduce writes down which server has the ring. */
static void
introduce(weir_ring *ring, const weir_ring_options *o)
{
	weir_header *h = ring->header;
	const char *text = o->server_version_text != NULL ? o->server_version_text : "";
	size_t length = strnlen(text, sizeof h->server_version_text - 1);

	h->engine = o->engine;
	h->server_version = o->server_version;
	memset(h->server_version_text, 0, sizeof h->server_version_text);
	memcpy(h->server_version_text, text, length);
	STORE(h->started_us, now_us());
}

/*
 * fill makes an empty, locked file a ring. The magic is written last, so a ring
 * that was not finished is none, and the next start makes it anew.
 *
 * From an old ring it takes what capture was told to do: the mode and its
 * policy, so that a server that fails closed stays closed, and the settings.
 */
static bool
fill(weir_ring *ring, const weir_ring_options *o, int fd, uint64_t data_size, const weir_header *old, const failure *why)
{
	weir_header *h;
	uint64_t epoch = now_us();

	if (!share(o, fd, why) || !allocate(o->path, fd, data_size, why) || !map(ring, o->path, fd, data_size, why))
		return false;
	h = ring->header;
	h->layout = WEIR_RING_LAYOUT;
	h->header_size = WEIR_RING_HEADER_SIZE;
	h->data_size = data_size;
	if (old != NULL) {
		if (epoch <= old->epoch) /* the clock was set back */
			epoch = old->epoch + 1;
		h->mode = old->mode;
		h->sync_level = old->sync_level;
		h->on_failure = old->on_failure;
		h->sync_timeout_ms = old->sync_timeout_ms;
		h->policy_generation = old->policy_generation;
		h->settings_length = old->settings_length;
		h->settings_crc = old->settings_crc;
		memcpy(h->settings, old->settings, sizeof h->settings);
	}
	h->epoch = epoch;
	introduce(ring, o);
	weir_ring_recover(ring);
	STORE_RELEASE(h->magic, WEIR_RING_MAGIC);
	return true;
}

/*
 * remake puts a new ring in the old one's place. It is finished beside it and
 * renamed over it, so the path never leads to less than a whole ring, and a
 * capture that still maps the old one keeps it, and sees that it was replaced.
 * The name beside is ours alone: who makes it holds the lock on the old file.
 */
static bool
remake(weir_ring *ring, const weir_ring_options *o, ring_file *file, uint64_t data_size, const failure *why)
{
	const weir_header *old = file->header.magic == WEIR_RING_MAGIC ? &file->header : NULL;
	char beside[PATH_MAX];
	int fd;

	if (snprintf(beside, sizeof beside, "%s.new", o->path) >= (int)sizeof beside)
		return fail(why, "%s: the path is too long", o->path);
	if (unlink(beside) != 0 && errno != ENOENT)
		return fail(why, "removing %s, which an earlier start left: %m", beside);
	fd = open(beside, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0660);
	if (fd < 0)
		return fail(why, "creating %s: %m", beside);
	/* Nothing in the old one is wanted any more: its memory may be all there is for the new one. */
	(void)fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, WEIR_RING_HEADER_SIZE,
			(off_t)WEIR_RING_MAX_SIZE);
	if (take_server_lock(beside, fd, why) && fill(ring, o, fd, data_size, old, why)) {
		if (rename(beside, o->path) == 0) {
			close(file->fd);
			return true;
		}
		fail(why, "renaming %s to %s: %m", beside, o->path);
		munmap(ring->header, WEIR_RING_HEADER_SIZE + data_size);
	}
	unlink(beside);
	close(fd);
	return false;
}

/* unread says whether the ring holds something that capture has not stored elsewhere. */
static bool
unread(const weir_header *h)
{
	const weir_checkpoint *told = &h->checkpoints[h->active_checkpoint & 1];

	return h->tail != h->head || h->gap_last > told->number;
}

/* take_over decides what becomes of the file that was found, which is ours and locked. */
static bool
take_over(weir_ring *ring, const weir_ring_options *o, ring_file *file, uint64_t wanted, const failure *why)
{
	const weir_header *h = &file->header;
	bool whole;

	if (h->magic == 0 && h->layout <= WEIR_RING_LAYOUT && (h->header_size == 0 || h->header_size == WEIR_RING_HEADER_SIZE))
		return remake(ring, o, file, wanted, why); /* empty, or never finished */
	if (h->magic != WEIR_RING_MAGIC)
		return fail(why, "%s is not a ring: it begins with other bytes; remove it, or set weir.ring_file to another path",
			    o->path);
	if (h->layout != WEIR_RING_LAYOUT || h->header_size != WEIR_RING_HEADER_SIZE)
		return fail(why,
			    "%s has layout %u, this module writes %u: let the capture of the version that made it read it to "
			    "the end, then remove the file",
			    o->path, (unsigned)h->layout, (unsigned)WEIR_RING_LAYOUT);

	/* Whoever cut the file short has destroyed what was in it; the new epoch tells. */
	whole = h->data_size >= WEIR_RING_MIN_SIZE && h->data_size <= WEIR_RING_MAX_SIZE && h->data_size % 4096 == 0 &&
		(uint64_t)file->st.st_size == WEIR_RING_HEADER_SIZE + h->data_size;
	if (!whole || (h->data_size != wanted && !unread(h)))
		return remake(ring, o, file, wanted, why);

	/* Allocated again, for a start that failed may have given its memory back (remake). */
	if (!share(o, file->fd, why) || !allocate(o->path, file->fd, h->data_size, why) ||
	    !map(ring, o->path, file->fd, h->data_size, why))
		return false;
	forget_dead_capture(ring->header, file->fd);
	introduce(ring, o);
	weir_ring_recover(ring);
	return true;
}

/*
 * open_file opens the ring's file, or creates an empty one, and locks it. It
 * sets *again where another process changed the path in between.
 */
static bool
open_file(const char *path, ring_file *file, bool *again, const failure *why)
{
	struct stat now;
	ssize_t got;

	memset(file, 0, sizeof *file);
	file->fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (file->fd < 0 && errno == ENOENT) {
		file->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0660);
		file->created = file->fd >= 0;
		if (file->fd < 0 && errno == EEXIST) {
			*again = true;
			return fail(why, "%s appears and disappears: another server is starting with the same weir.ring_file", path);
		}
	}
	if (file->fd < 0 && errno == ELOOP)
		return fail(why, "%s is a symbolic link, which is not followed: set weir.ring_file to the file itself", path);
	if (file->fd < 0)
		return fail(why, "opening %s: %m", path);

	if (fstat(file->fd, &file->st) != 0)
		return fail(why, "asking for the owner of %s: %m", path);
	if (!S_ISREG(file->st.st_mode))
		return fail(why, "%s is not a regular file", path);
	if (file->st.st_uid != geteuid())
		return fail(why, "%s belongs to user %u, not to the server's user %u: remove it, or set weir.ring_file to another path",
			    path, (unsigned)file->st.st_uid, (unsigned)geteuid());
	if (!check_in_memory(path, file->fd, why)) {
		if (file->created)
			unlink(path);
		return false;
	}
	if (!take_server_lock(path, file->fd, why))
		return false;

	/* Locked, but perhaps no longer what the path leads to: then somebody else made a ring there. */
	if (lstat(path, &now) != 0 || now.st_ino != file->st.st_ino || now.st_dev != file->st.st_dev) {
		*again = true;
		return fail(why, "%s was replaced while it was opened", path);
	}
	if (fstat(file->fd, &file->st) != 0)
		return fail(why, "asking for the size of %s: %m", path);
	got = pread(file->fd, &file->header, sizeof file->header, 0);
	if (got < 0)
		return fail(why, "reading %s: %m", path);
	return true;
}

int
weir_ring_open(weir_ring *ring, const weir_ring_options *o, char *err, size_t err_size)
{
	static bool registered;
	const failure why = {err, err_size};
	uint64_t size = (o->size + 4095) & ~UINT64_C(4095);
	ring_file file;
	bool ok, again;
	int tries = 0;

	if (err_size > 0)
		err[0] = '\0';
	memset(ring, 0, sizeof *ring);
	ring->fd = -1;
	if (o->size < WEIR_RING_MIN_SIZE || o->size > WEIR_RING_MAX_SIZE) {
		fail(&why, "weir.ring_size is %llu bytes, and must be from %llu to %llu", (unsigned long long)o->size,
		     (unsigned long long)WEIR_RING_MIN_SIZE, (unsigned long long)WEIR_RING_MAX_SIZE);
		return -1;
	}
	if (!registered && pthread_atfork(NULL, NULL, weir_ring_forget_pid) != 0) {
		fail(&why, "registering with fork: %m");
		return -1;
	}
	registered = true;

	do {
		again = false;
		ok = open_file(o->path, &file, &again, &why);
		if (ok && file.created) {
			ok = fill(ring, o, file.fd, size, NULL, &why);
			if (!ok)
				unlink(o->path); /* ours: it is locked */
		} else if (ok) {
			ok = take_over(ring, o, &file, size, &why);
		}
		if (!ok) {
			if (file.fd >= 0)
				close(file.fd);
			memset(ring, 0, sizeof *ring);
			ring->fd = -1;
		}
	} while (again && ++tries < 16);
	return ok ? 0 : -1;
}
