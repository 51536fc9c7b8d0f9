/*
 * slots_file.c: the file that the slots lie in; see slots.h.
 *
 * It belongs to whoever holds the ring: no process of the server that wrote it
 * lives when this one opens it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"

#include "slots_private.h"

#define MAGIC UINT64CONST(0x53544f4c52494557) /* "WEIRLOTS" */
#define LAYOUT 2

/* The guard looks every second; a machine that has other things to do may make that more. */
#define GUARD_SILENT_US (4 * INT64CONST(1000000))

/* Beyond MaxBackends, for processes that a version may add. */
#define SPARE_SLOTS 32

weir_slots_table *weir_slots;

static char path[MAXPGPATH];
static dev_t device;
static ino_t inode;
static size_t size;

static size_t
table_size(uint32 count)
{
	return offsetof(weir_slots_table, slot) + (size_t) count * sizeof(weir_slot);
}

static void
refuse(const char *doing)
{
	ereport(FATAL, (errcode(ERRCODE_CONFIG_FILE_ERROR), errmsg("weir: %s \"%s\": %m", doing, path),
					errhint("It lies beside weir.ring_file and needs a page of memory for each connection the server takes.")));
}

/* tell_left_behind tells what a server that died with all its processes left in its slots. */
static void
tell_left_behind(int fd, off_t length)
{
	weir_slots_table *old;

	if (length < (off_t) table_size(0))
		return;
	old = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (old == MAP_FAILED)
		refuse("mapping");
	if (old->magic == MAGIC && old->layout == LAYOUT && old->slot_size == sizeof(weir_slot) &&
		table_size(old->count) <= (size_t) length &&
		weir_ring_mode(&weir_the_ring) != WEIR_MODE_OFF)
		for (uint32 i = 0; i < old->count; i++)
			if (old->slot[i].pid != 0) {
				weir_slot_tell_end(&old->slot[i], "the server died with this session open");
				weir_slot_clear(&old->slot[i]);
			}
	munmap(old, length);
}

void
weir_slots_start(const char *ring_file)
{
	uint32 count = MaxBackends + SPARE_SLOTS;
	struct stat st;
	int fd, error;

	snprintf(path, sizeof path, "%s.sessions", ring_file);
	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		refuse("opening");
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid()) {
		errno = EPERM;
		refuse("not a file of the server's own:");
	}
	tell_left_behind(fd, st.st_size);
	size = table_size(count);
	if (ftruncate(fd, 0) != 0 || ftruncate(fd, (off_t) size) != 0)
		refuse("sizing");
	/* Allocated now: a session must not meet a full file system. */
	if ((error = posix_fallocate(fd, 0, (off_t) size)) != 0) {
		unlink(path);
		errno = error;
		refuse("allocating");
	}
	weir_slots = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (weir_slots == MAP_FAILED)
		refuse("mapping");
	close(fd);
	/* It holds texts, as the ring does. */
	(void) madvise(weir_slots, size, MADV_DONTDUMP);
	device = st.st_dev;
	inode = st.st_ino;
	weir_slots->layout = LAYOUT;
	weir_slots->count = count;
	weir_slots->slot_size = sizeof(weir_slot);
	weir_slots->magic = MAGIC;
}

void
weir_slots_remove(void)
{
	if (weir_slots && !weir_slots_removed())
		unlink(path);
}

bool
weir_slots_removed(void)
{
	struct stat st;

	return lstat(path, &st) != 0 || st.st_dev != device || st.st_ino != inode || (size_t) st.st_size < size;
}

bool
weir_slots_first(uint64 hash)
{
	for (size_t i = 0; weir_slots && i < lengthof(weir_slots->first); i++) {
		uint64 none = 0;

		if (__atomic_compare_exchange_n(&weir_slots->first[i], &none, hash, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return true;
		if (none == hash)
			return false;
	}
	/* Full: told again rather than not. */
	return true;
}

void
weir_slots_guard_looks(TimestampTz now)
{
	if (!weir_slots)
		return;
	__atomic_store_n(&weir_slots->guard_pid, (uint32) MyProcPid, __ATOMIC_RELAXED);
	__atomic_store_n(&weir_slots->guard_looked, now, __ATOMIC_RELAXED);
	__atomic_store_n(&weir_slots->guard_told, 0, __ATOMIC_RELEASE);
}

int
weir_slots_guard_silent(TimestampTz now)
{
	int64 looked = weir_slots ? __atomic_load_n(&weir_slots->guard_looked, __ATOMIC_RELAXED) : 0;

	if (likely(looked == 0 || now - looked < GUARD_SILENT_US))
		return 0;
	if (__atomic_exchange_n(&weir_slots->guard_told, 1, __ATOMIC_ACQ_REL) != 0)
		return 0;
	return (int) __atomic_load_n(&weir_slots->guard_pid, __ATOMIC_RELAXED);
}

char *
weir_slots_settings(void)
{
	return weir_slots ? weir_slots->settings : NULL;
}
