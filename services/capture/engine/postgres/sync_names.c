/*
 * sync_names.c: what the waits are called. An extension can name its own from
 * PostgreSQL 17 on; before, the name of a lock is the one that it can choose.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#if PG_VERSION_NUM >= 140000
#include "utils/wait_event.h"
#endif

#include "sync_private.h"

#if PG_VERSION_NUM >= 170000

uint32
weir_wait_event(const char *name)
{
	static uint32 durable, room;
	uint32 *event = strcmp(name, WAIT_ROOM) == 0 ? &room : &durable;

	if (!*event)
		*event = WaitEventExtensionNew(name);
	return *event;
}

void
weir_sync_init(void)
{
}

void
weir_sync_init_shared(void)
{
}

#else

static int durable_tranche, room_tranche;

uint32
weir_wait_event(const char *name)
{
	return PG_WAIT_LWLOCK | (uint32) (strcmp(name, WAIT_ROOM) == 0 ? room_tranche : durable_tranche);
}

#if PG_VERSION_NUM >= 150000
static shmem_request_hook_type next_request;
#endif

static void
request_names(void)
{
#if PG_VERSION_NUM >= 150000
	if (next_request)
		next_request();
#endif
	RequestNamedLWLockTranche(WAIT_DURABLE, 1);
	RequestNamedLWLockTranche(WAIT_ROOM, 1);
}

void
weir_sync_init(void)
{
#if PG_VERSION_NUM >= 150000
	next_request = shmem_request_hook;
	shmem_request_hook = request_names;
#else
	request_names();
#endif
}

void
weir_sync_init_shared(void)
{
	durable_tranche = GetNamedLWLockTranche(WAIT_DURABLE)->lock.tranche;
	room_tranche = GetNamedLWLockTranche(WAIT_ROOM)->lock.tranche;
}

#endif
