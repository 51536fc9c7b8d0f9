/*
 * guard.h: a background worker that looks, once a second, at what no session
 * sees by itself.
 *
 * Statements that have run for long; the ring's file, which somebody may remove
 * under the server; the server's configuration files, which somebody may edit
 * by hand. Who guards it are the sessions: one that finds that it has not looked
 * for some seconds tells, and wakes it (watch.c). It has no database and costs a few system calls a second.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_GUARD_H
#define WEIR_GUARD_H

#include "postgres.h"

#include "fmgr.h"

/* weir.long_statement, in milliseconds. */
extern int weir_long_statement_ms;

/* weir_guard_register has the server start the worker; while the module is loaded. */
extern void weir_guard_register(const char *ring_file);

extern PGDLLEXPORT void weir_guard_main(Datum arg);

#endif
