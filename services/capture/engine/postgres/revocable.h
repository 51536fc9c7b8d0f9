/*
 * revocable.h: what a statement does that a rollback does not undo. gate.c asks
 * before it lets one run.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_REVOCABLE_H
#define WEIR_REVOCABLE_H

#include "postgres.h"

#include "nodes/parsenodes.h"

/* weir_ends_transaction: what must not be refused at its start. utility is NULL for a query, here and below. */
extern bool weir_ends_transaction(const Node *utility);

/* weir_is_irrevocable says whether a rollback does not undo a utility. */
extern bool weir_is_irrevocable(const Node *utility);

/* weir_function_is_harmless: a volatile function of the server that leaves nothing behind that an auditor would miss. */
extern bool weir_function_is_harmless(Oid function);

#endif
