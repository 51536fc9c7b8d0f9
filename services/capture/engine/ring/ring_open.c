/*
 * ring_open.c: what becomes of the file that the server's start finds, or makes:
 * a new ring, the old one, or a refusal. There is time for questions then.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "ring_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static uint64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
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

	if (!weir_ring_share(o, fd, why) || !weir_ring_allocate(o->path, fd, data_size, why) ||
	    !weir_ring_map(ring, o->path, fd, data_size, why))
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
	if (weir_ring_take_server_lock(beside, fd, why) && fill(ring, o, fd, data_size, old, why)) {
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
	if (!weir_ring_share(o, file->fd, why) || !weir_ring_allocate(o->path, file->fd, h->data_size, why) ||
	    !weir_ring_map(ring, o->path, file->fd, h->data_size, why))
		return false;
	forget_dead_capture(ring->header, file->fd);
	introduce(ring, o);
	weir_ring_recover(ring);
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
		ok = weir_ring_open_file(o->path, &file, &again, &why);
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
