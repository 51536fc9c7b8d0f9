/*
 * sync_private.h: what sync.c and sync_names.c share.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_SYNC_PRIVATE_H
#define WEIR_SYNC_PRIVATE_H

#include "sync.h"

/* What pg_stat_activity shows. */
#define WAIT_DURABLE "WeirDurable"
#define WAIT_ROOM "WeirRoom"

/* weir_wait_event is the server's number for one of these names. */
extern uint32 weir_wait_event(const char *name);

#endif
