/*
 * revocable.c: what a statement does that a rollback does not undo; see
 * revocable.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "revocable.h"

/* weir_ends_transaction: what must not be refused at its start, for its transaction could then not end. */
bool
weir_ends_transaction(const Node *utility)
{
	if (!utility || !IsA(utility, TransactionStmt))
		return false;
	switch (((const TransactionStmt *) utility)->kind) {
		case TRANS_STMT_COMMIT: /* waits when it is certain what is committed */
		case TRANS_STMT_PREPARE:
		case TRANS_STMT_ROLLBACK:
		case TRANS_STMT_ROLLBACK_TO:
			return true;
		default:
			return false;
	}
}

/* detaches_concurrently says whether ALTER TABLE commits in between. */
static bool
detaches_concurrently(const AlterTableStmt *alter)
{
#if PG_VERSION_NUM >= 140000
	ListCell *cell;

	foreach(cell, alter->cmds) {
		const AlterTableCmd *command = lfirst(cell);

		if (command->subtype == AT_DetachPartition && ((const PartitionCmd *) command->def)->concurrent)
			return true;
	}
#endif
	return false;
}

/*
 * weir_is_irrevocable says whether a rollback does not undo a utility: it
 * commits by itself, or what it does is outside of the database. A query is as
 * revocable as the functions that it calls: weir_gate_function.
 */
bool
weir_is_irrevocable(const Node *utility)
{
	if (!utility)
		return false;
	switch (nodeTag(utility)) {
		case T_VacuumStmt:
		case T_ClusterStmt:
		case T_ReindexStmt:
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterDatabaseStmt: /* may move it to another tablespace */
		case T_CreateTableSpaceStmt:
		case T_DropTableSpaceStmt:
		case T_AlterSystemStmt:
		case T_CreateSubscriptionStmt: /* slots on another server */
		case T_AlterSubscriptionStmt:
		case T_DropSubscriptionStmt:
		case T_LoadStmt:
		case T_CheckPointStmt:
		case T_CallStmt: /* may commit, and may be written in any language */
		case T_DoStmt:
			return true;
		case T_CopyStmt:
			return ((const CopyStmt *) utility)->is_program ||
				(!((const CopyStmt *) utility)->is_from && ((const CopyStmt *) utility)->filename);
		case T_IndexStmt:
			return ((const IndexStmt *) utility)->concurrent;
		case T_DropStmt:
			return ((const DropStmt *) utility)->concurrent;
		case T_AlterTableStmt:
			return detaches_concurrently((const AlterTableStmt *) utility);
		case T_TransactionStmt:
			return ((const TransactionStmt *) utility)->kind == TRANS_STMT_COMMIT_PREPARED ||
				((const TransactionStmt *) utility)->kind == TRANS_STMT_ROLLBACK_PREPARED;
		default:
			return false;
	}
}

/*
 * weir_function_is_harmless lists functions of the server that are volatile and
 * leave nothing behind that an auditor would miss. A sequence's value is not
 * given back, but nobody else sees that it was taken; every row with a serial
 * column takes one.
 */
bool
weir_function_is_harmless(Oid function)
{
	switch (function) {
		case 274:  /* timeofday */
		case 1574: /* nextval */
		case 1575: /* currval */
		case 1598: /* random */
		case 1599: /* setseed */
		case 2559: /* lastval */
		case 2626: /* pg_sleep */
		case 2649: /* clock_timestamp */
		case 3432: /* gen_random_uuid */
		case 3935: /* pg_sleep_for */
		case 3936: /* pg_sleep_until */
			return true;
		default:
			return false;
	}
}
