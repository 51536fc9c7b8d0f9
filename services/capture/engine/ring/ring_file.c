/*
 * ring_file.c: the ring's file: opening it, and asking whether it may be one.
 * Every refusal says what is wrong and what to do about it.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "ring_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

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
 * weir_ring_take_server_lock holds byte 0 for this process and all that it
 * forks. The kernel frees it when the last of them is gone, which is how
 * capture knows.
 */
bool
weir_ring_take_server_lock(const char *path, int fd, const failure *why)
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

/* weir_ring_allocate makes the file so long and reserves the memory, so that no later write can fail. */
bool
weir_ring_allocate(const char *path, int fd, uint64_t data_size, const failure *why)
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

bool
weir_ring_map(weir_ring *ring, const char *path, int fd, uint64_t data_size, const failure *why)
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

/* weir_ring_share lets the group of capture read and write the file, and nobody else. */
bool
weir_ring_share(const weir_ring_options *o, int fd, const failure *why)
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

/*
 * weir_ring_open_file opens the ring's file, or creates an empty one, and locks
 * it. It sets *again where another process changed the path in between.
 */
bool
weir_ring_open_file(const char *path, ring_file *file, bool *again, const failure *why)
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
	if (!weir_ring_take_server_lock(path, file->fd, why))
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
