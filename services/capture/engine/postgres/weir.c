/*
 * weir.c: the module PostgreSQL loads: settings, the ring, hooks.
 *
 * A session pays for building its event and one copy into the ring, a file in
 * memory that the postmaster mapped before it forked. Nothing here waits, and
 * nothing here can be changed by a session.
 *
 * Before: the server, through shared_preload_libraries.
 * Next: hooks.c, where each statement comes in.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>

#include "fmgr.h"
#include "storage/ipc.h"
#include "utils/guc.h"

#include "gate.h"
#include "guard.h"
#include "hooks.h"
#include "names.h"
#include "slots.h"
#include "statement.h"
#include "sync.h"
#include "watch.h"
#include "weir.h"

PG_MODULE_MAGIC;

void _PG_init(void);

weir_ring weir_the_ring;
bool weir_ring_is_open;
bool weir_in_error;

static char *ring_file;
static int ring_size_kb;
static char *ring_group;

static shmem_startup_hook_type next_shmem_startup;

bool
weir_audited(void)
{
	switch (MyBackendType) {
		case B_BACKEND:
		case B_WAL_SENDER:
			return true;
		case B_BG_WORKER:
			return OidIsValid(MyDatabaseId);
#if PG_VERSION_NUM >= 180000
		/* One too many. */
		case B_DEAD_END_BACKEND:
			return true;
#endif
		case B_INVALID:
			/* What is not yet known to be a session, for its first packet is refused. */
			return MyProcPort != NULL || !IsPostmasterEnvironment;
		default:
			/* A single-user server is one process: its own postmaster and session. */
			return !IsPostmasterEnvironment;
	}
}

static void
define_settings(void)
{
	DefineCustomStringVariable("weir.ring_file", "The file in memory that events are written to.",
							   "A file on tmpfs that capture maps too; it outlives the server.", &ring_file,
							   "/dev/shm/weir.ring", PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("weir.ring_size", "How many bytes of events the ring holds.",
							"What capture has not stored yet stays in it.", &ring_size_kb, 128 * 1024,
							WEIR_RING_MIN_SIZE / 1024, WEIR_RING_MAX_SIZE / 1024, PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL,
							NULL);
	DefineCustomStringVariable("weir.ring_group", "The group that may read a new ring: capture's.",
							   "Empty for the server's own.", &ring_group, "", PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("weir.long_statement", "After which time a statement that still runs is told of.",
							"Its end is told when it comes.", &weir_long_statement_ms, 10000, 100, INT_MAX, PGC_SIGHUP,
							GUC_UNIT_MS, NULL, NULL, NULL);
	weir_gate_init();
#if PG_VERSION_NUM >= 150000
	MarkGUCPrefixReserved("weir");
#else
	EmitWarningsOnPlaceholders("weir");
#endif
}

/* group_id looks up weir.ring_group; -1 for none. */
static int64
group_id(void)
{
	struct group *group;

	if (!ring_group || !ring_group[0])
		return -1;
	errno = 0;
	group = getgrnam(ring_group);
	if (!group)
		ereport(FATAL, (errcode(ERRCODE_CONFIG_FILE_ERROR), errmsg("weir: there is no group \"%s\"", ring_group),
						errhint("Set weir.ring_group to the group that capture runs in, or to nothing.")));
	return group->gr_gid;
}

static void
open_ring(void)
{
	weir_ring_options options = {
		.path = ring_file,
		.size = (uint64) ring_size_kb * 1024,
		.group = group_id(),
		.engine = WEIR_ENGINE_POSTGRESQL,
		.server_version = PG_VERSION_NUM,
		.server_version_text = PG_VERSION,
	};
	char err[512];

	if (weir_ring_open(&weir_the_ring, &options, err, sizeof err) != 0)
		ereport(FATAL, (errcode(ERRCODE_CONFIG_FILE_ERROR), errmsg("weir: cannot use the ring \"%s\": %s", ring_file, err),
						errhint("The server does not start unaudited. Set weir.ring_file and weir.ring_size to what this host "
								"has room for in memory, or take weir out of shared_preload_libraries.")));
	weir_ring_is_open = true;
}

/*
 * The server makes its shared memory when it starts and again after a crash of
 * a session, when all sessions are gone: then the ring is put in order too.
 */
static void
on_shmem_startup(void)
{
	static bool started;

	if (next_shmem_startup)
		next_shmem_startup();
	weir_sync_init_shared();
	if (IsUnderPostmaster)
		return;
	if (!started) {
		weir_slots_start(ring_file);
		weir_watch_start();
	} else {
		weir_ring_recover(&weir_the_ring);
		weir_slots_recover(true);
	}
	started = true;
}

/* on_postmaster_exit announces a stop that was asked for; sessions do not inherit it. */
static void
on_postmaster_exit(int code, Datum arg)
{
	if (MyProcPid != PostmasterPid && IsPostmasterEnvironment)
		return;
	/* An immediate stop throws sessions out, which then write nothing. */
	weir_slots_recover(false);
	if (code != 0)
		return;
	weir_slots_remove();
	weir_ring_stopping(&weir_the_ring);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("weir must be loaded when the server starts"),
						errhint("Add weir to shared_preload_libraries and restart the server.")));
	define_settings();
	open_ring();
	if (IsPostmasterEnvironment)
		weir_guard_register(ring_file);
	on_proc_exit(on_postmaster_exit, (Datum) 0);
	next_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = on_shmem_startup;
	weir_names_init();
	weir_statements_init();
	weir_hooks_init();
	weir_messages_init();
	weir_sync_init();
}
