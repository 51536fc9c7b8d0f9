/*
 * guard.c: a background worker that looks at what no session sees; see guard.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 140000
#include "utils/wait_event.h"
#endif

#include "guard.h"
#include "notice.h"
#include "slots.h"
#include "watch.h"
#include "weir.h"

#define LOOK_EVERY_MS 1000

static const char *ring_path;

int weir_long_statement_ms;

void
weir_guard_register(const char *ring_file)
{
	BackgroundWorker worker;
	Dl_info self;

	ring_path = ring_file;
	memset(&worker, 0, sizeof worker);
	strlcpy(worker.bgw_name, "weir guard", sizeof worker.bgw_name);
	strlcpy(worker.bgw_type, "weir guard", sizeof worker.bgw_type);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_function_name, "weir_guard_main", sizeof worker.bgw_function_name);
	/* The library by the name it was loaded by: it need not lie where the server's own do. */
	if (dladdr((void *) weir_guard_main, &self) == 0 ||
		strlcpy(worker.bgw_library_name, self.dli_fname, sizeof worker.bgw_library_name) >= sizeof worker.bgw_library_name) {
		ereport(WARNING, (errmsg("weir: its path is too long for a background worker"),
						  errdetail("Long statements and changes to files are not told of while they last."),
						  errhint("Install weir.so in the server's library directory.")));
		return;
	}
	RegisterBackgroundWorker(&worker);
}

/* look_at_files tells once when the ring, or the sessions' file beside it, is no longer what its path leads to. */
static void
look_at_files(void)
{
	static bool ring_told, slots_told;
	struct stat open, named;

	if (!ring_told && fstat(weir_the_ring.fd, &open) == 0 &&
		(lstat(ring_path, &named) != 0 || named.st_dev != open.st_dev || named.st_ino != open.st_ino)) {
		ring_told = true;
		weir_notice(WEIR_NOTICE_RING_REMOVED, ring_path);
	}
	if (!slots_told && weir_slots_removed()) {
		char path[MAXPGPATH];

		slots_told = true;
		snprintf(path, sizeof path, "%s.sessions", ring_path);
		weir_notice(WEIR_NOTICE_RING_REMOVED, path);
	}
}

/* ring_is_whole: a mapping whose file was cut short kills whoever touches it. Capture tells of that. */
static bool
ring_is_whole(void)
{
	struct stat st;

	return fstat(weir_the_ring.fd, &st) == 0 && (uint64) st.st_size >= WEIR_RING_HEADER_SIZE + weir_the_ring.data_size;
}

/* When a file was last changed, as one number to compare. */
static uint64
mark_of(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return 0;
	return ((uint64) st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec) ^ ((uint64) st.st_ino << 32) ^ (uint64) st.st_size;
}

/*
 * read_settings reads what the configuration files say now of the settings that
 * count, as lines "name=value", in the order of their names. Those that only a
 * restart puts in force show nowhere else. False where a file has an error: the
 * server takes nothing from it either.
 */
static bool
read_settings(char *lines, size_t size)
{
	ConfigVariable *head = NULL, *tail = NULL;
	char last[NAMEDATALEN] = "";
	size_t length = 0;

	lines[0] = '\0';
	if (!ParseConfigFile(ConfigFileName, true, NULL, 0, 0, DEBUG1, &head, &tail))
		return false;
	if (access(PG_AUTOCONF_FILENAME, R_OK) == 0 &&
		!ParseConfigFile(PG_AUTOCONF_FILENAME, false, NULL, 0, 0, DEBUG1, &head, &tail))
		return false;
	for (;;) {
		const ConfigVariable *next = NULL;

		/* The last of a name counts; there are a handful, so the next name is looked for from the start. */
		for (const ConfigVariable *v = head; v; v = v->next)
			if (v->name && weir_setting_counts(v->name) && strcmp(v->name, last) > 0 && (!next || strcmp(v->name, next->name) <= 0))
				next = v;
		if (!next)
			return true;
		length += snprintf(lines + length, size - length, "%s=%s\n", next->name, next->value ? next->value : "");
		if (length >= size)
			return true;
		strlcpy(last, next->name, sizeof last);
	}
}

/* has_line says whether a line of n bytes, its end included, stands among lines. */
static bool
has_line(const char *lines, const char *line, size_t n)
{
	while (*lines) {
		const char *end = strchr(lines, '\n');

		if (!end)
			return false;
		if ((size_t) (end + 1 - lines) == n && memcmp(lines, line, n) == 0)
			return true;
		lines = end + 1;
	}
	return false;
}

/* tell_missing tells each setting whose line among `in` does not stand in `from`, once. */
static void
tell_missing(const char *in, const char *from, const char *told)
{
	for (const char *line = in, *end; (end = strchr(line, '\n')); line = end + 1) {
		const char *equals = memchr(line, '=', end - line);
		char subject[NAMEDATALEN + 64];
		const char *other;
		bool again = false;

		if (!equals || has_line(from, line, end + 1 - line))
			continue;
		/* A value that changed stands in both; it is one change. */
		for (other = told; other && (other = strstr(other, "\n")) && *++other;)
			again |= strncmp(other, line, equals + 1 - line) == 0;
		if (again || (told && strncmp(told, line, equals + 1 - line) == 0))
			continue;
		snprintf(subject, sizeof subject, "%.*s, in the configuration files", (int) (equals - line), line);
		weir_notice(WEIR_NOTICE_SETTING_CHANGED, subject);
	}
}

/* look_at_settings tells which settings the configuration files changed; what they said before lies with the slots. */
static void
look_at_settings(bool reloaded)
{
	static uint64 conf_mark, auto_mark;
	uint64 conf = mark_of(ConfigFileName), automatic = mark_of(PG_AUTOCONF_FILENAME);
	char *before = weir_slots_settings();
	static char now[WEIR_SLOTS_SETTINGS];
	MemoryContext scratch, old;
	bool readable;

	if (!before || (!reloaded && conf == conf_mark && automatic == auto_mark))
		return;
	conf_mark = conf;
	auto_mark = automatic;
	scratch = AllocSetContextCreate(TopMemoryContext, "weir settings", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(scratch);
	readable = read_settings(now, sizeof now);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	if (!readable)
		return;
	if (before[0]) {
		tell_missing(now, before, NULL);
		tell_missing(before, now, now);
	}
	strlcpy(before, now, WEIR_SLOTS_SETTINGS);
}

void
weir_guard_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	for (bool reloaded = false;; reloaded = false) {
		/* Not 0, which would be an end for good: whoever terminates it gets another. */
		if (ShutdownRequestPending)
			proc_exit(1);
		if (ConfigReloadPending) {
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			reloaded = true;
		}
		weir_slots_guard_looks(GetCurrentTimestamp());
		/* The size first: the mode lies in the ring. */
		if (ring_is_whole() && weir_ring_mode(&weir_the_ring) != WEIR_MODE_OFF) {
			look_at_files();
			look_at_settings(reloaded);
			weir_slots_tell_long(GetCurrentTimestamp(), (int64) weir_long_statement_ms * 1000);
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_EVERY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}
