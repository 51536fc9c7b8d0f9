/*
 * hooks.c: where the server calls.
 *
 * Every hook does the same: notes the call, lets the server work, and on an
 * error ends the statement and passes the error on. The previous owner of a
 * hook is called in its place.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "optimizer/planner.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"

#include "gate.h"
#include "hooks.h"
#include "session.h"
#include "statement.h"
#include "watch.h"
#include "weir.h"

static planner_hook_type next_planner;
static ExecutorStart_hook_type next_start;
static ExecutorRun_hook_type next_run;
static ExecutorFinish_hook_type next_finish;
static ExecutorEnd_hook_type next_end;
static ExecutorCheckPerms_hook_type next_check;
static ProcessUtility_hook_type next_utility;
static object_access_hook_type next_access;

static PlannedStmt *
call_planner(Query *query, const char *source, int options, ParamListInfo params)
{
	return next_planner ? next_planner(query, source, options, params) : standard_planner(query, source, options, params);
}

/*
 * Planning runs functions too, and fails: SELECT 1/0 never reaches the
 * executor. The query's names are learnt before, for after an error they
 * cannot be.
 */
static PlannedStmt *
weir_planner(Query *query, const char *source, int options, ParamListInfo params)
{
	PlannedStmt *plan;
	weir_call call;

	if (!weir_watching())
		return call_planner(query, source, options, params);
	weir_plan_prepare(query, source);
	weir_call_enter(&call, NULL);
	PG_TRY();
	{
		if (weir_gated() && call.depth == 0)
			weir_gate(NULL, NULL);
		plan = call_planner(query, source, options, params);
	}
	PG_CATCH();
	{
		weir_call_fail(&call);
		weir_plan_failed(query, source);
		PG_RE_THROW();
	}
	PG_END_TRY();
	weir_call_leave(&call);
	weir_plan_done();
	return plan;
}

static void
call_start(QueryDesc *query, int flags)
{
	if (next_start)
		next_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

static void
weir_start(QueryDesc *query, int flags)
{
	weir_statement *s;
	weir_call call;

	if (!weir_watching()) {
		call_start(query, flags);
		return;
	}
	s = weir_statement_of_query(query);
	weir_call_enter(&call, s);
	PG_TRY();
	{
		if (weir_gated() && call.depth == 0)
			weir_gate(s, NULL);
		call_start(query, flags);
	}
	PG_CATCH();
	{
		weir_call_fail(&call);
		PG_RE_THROW();
	}
	PG_END_TRY();
	weir_call_leave(&call);
}

#if PG_VERSION_NUM >= 180000
#define RUN_PARAMETERS QueryDesc *query, ScanDirection direction, uint64 count
#define RUN_ARGUMENTS query, direction, count
#else
#define RUN_PARAMETERS QueryDesc *query, ScanDirection direction, uint64 count, bool once
#define RUN_ARGUMENTS query, direction, count, once
#endif

static void
call_run(RUN_PARAMETERS)
{
	if (next_run)
		next_run(RUN_ARGUMENTS);
	else
		standard_ExecutorRun(RUN_ARGUMENTS);
}

/* A portal that is read in parts runs once for each part. */
static void
weir_run(RUN_PARAMETERS)
{
	weir_statement *s;
	weir_call call;

	if (!weir_watching()) {
		call_run(RUN_ARGUMENTS);
		return;
	}
	s = weir_statement_find(query);
	weir_call_enter(&call, s);
	weir_run_enter(s);
	PG_TRY();
	{
		call_run(RUN_ARGUMENTS);
	}
	PG_CATCH();
	{
		weir_run_leave(s, false);
		weir_call_fail(&call);
		PG_RE_THROW();
	}
	PG_END_TRY();
	weir_run_leave(s, count != 0);
	weir_call_leave(&call);
	weir_watch();
}

static void
call_finish(QueryDesc *query)
{
	if (next_finish)
		next_finish(query);
	else
		standard_ExecutorFinish(query);
}

/* AFTER triggers run here; a plain SELECT has none. */
static void
weir_finish(QueryDesc *query)
{
	weir_call call;

	if (!weir_watching() || (query->operation == CMD_SELECT && !query->plannedstmt->hasModifyingCTE)) {
		call_finish(query);
		return;
	}
	weir_call_enter(&call, weir_statement_find(query));
	PG_TRY();
	{
		call_finish(query);
	}
	PG_CATCH();
	{
		weir_call_fail(&call);
		PG_RE_THROW();
	}
	PG_END_TRY();
	weir_call_leave(&call);
}

static void
weir_end(QueryDesc *query)
{
	weir_statement *s;

	if (next_end)
		next_end(query);
	else
		standard_ExecutorEnd(query);
	/* Also where the mode was switched off meanwhile: what was begun is told. */
	s = weir_statement_find(query);
	if (!s)
		return;
	weir_statement_close(s, NULL);
	if (weir_gated())
		weir_gate_left();
}

#if PG_VERSION_NUM >= 160000
static bool
weir_check(List *range_table, List *permissions, bool throws)
{
	if (next_check && !next_check(range_table, permissions, throws))
		return false;
	if (weir_watching())
		weir_statement_add_relations(range_table, permissions);
	return true;
}
#else
static bool
weir_check(List *range_table, bool throws)
{
	if (next_check && !next_check(range_table, throws))
		return false;
	if (weir_watching())
		weir_statement_add_relations(range_table, NIL);
	return true;
}
#endif

#if PG_VERSION_NUM >= 140000
#define UTILITY_PARAMETERS PlannedStmt *plan, const char *source, bool read_only, ProcessUtilityContext context, \
		ParamListInfo params, QueryEnvironment *environment, DestReceiver *destination, QueryCompletion *completion
#define UTILITY_ARGUMENTS plan, source, read_only, context, params, environment, destination, completion
#else
#define UTILITY_PARAMETERS PlannedStmt *plan, const char *source, ProcessUtilityContext context, \
		ParamListInfo params, QueryEnvironment *environment, DestReceiver *destination, QueryCompletion *completion
#define UTILITY_ARGUMENTS plan, source, context, params, environment, destination, completion
#endif

static void
call_utility(UTILITY_PARAMETERS)
{
	if (next_utility)
		next_utility(UTILITY_ARGUMENTS);
	else
		standard_ProcessUtility(UTILITY_ARGUMENTS);
}

/*
 * A utility's parse tree may be gone when it returns, and its transaction with
 * it: nothing but the statement opened before is looked at afterwards. The
 * parts a utility is made of (the sequence of a serial column) are no
 * statements of anybody.
 */
static void
weir_utility(UTILITY_PARAMETERS)
{
	char setting[NAMEDATALEN + 32];
	bool sets;
	weir_statement *s;
	weir_call call;

	if (!weir_watching()) {
		call_utility(UTILITY_ARGUMENTS);
		return;
	}
	weir_watch_before(plan->utilityStmt);
	sets = weir_watch_setting(plan->utilityStmt, setting, sizeof setting);
	s = context == PROCESS_UTILITY_SUBCOMMAND ? NULL
		: weir_statement_of_utility(plan, source, context == PROCESS_UTILITY_TOPLEVEL, params);
	weir_call_enter(&call, s);
	PG_TRY();
	{
		if (weir_gated() && call.depth == 0 && context != PROCESS_UTILITY_SUBCOMMAND)
			weir_gate(s, plan->utilityStmt);
		call_utility(UTILITY_ARGUMENTS);
	}
	PG_CATCH();
	{
		weir_call_fail(&call);
		PG_RE_THROW();
	}
	PG_END_TRY();
	weir_call_leave(&call);
	weir_watch();
	if (sets)
		weir_watch_after(setting);
	if (!s)
		return;
	if (completion && command_tag_display_rowcount(completion->commandTag)) {
		s->has_rows = true;
		s->rows = completion->nprocessed;
	}
	/* A transaction that had failed is rolled back, whatever was asked for; that is what the client is told too. */
	if (completion && completion->commandTag == CMDTAG_ROLLBACK)
		s->verb.command = "ROLLBACK";
	weir_statement_close(s, NULL);
	if (weir_gated() && call.depth == 0)
		weir_gate_left();
	/* SET ROLE has just changed who the next event is of. */
	weir_session_refresh();
}

/*
 * Functions of the server itself are told from a user's by their number alone.
 * They are of interest where there may be no statement that names them: the
 * client called one by its number, as libpq does for large objects.
 */
static void
weir_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (next_access)
		next_access(access, class, object, sub, arg);
	if (access == OAT_FUNCTION_EXECUTE && weir_gated() && weir_watching())
		weir_gate_function(object);
	if (access != OAT_FUNCTION_EXECUTE || (object < FirstNormalObjectId && (debug_query_string || ActivePortal)))
		return;
	if (weir_watching() && weir_catalogs_readable())
		weir_statement_add_function(object);
}

void
weir_hooks_init(void)
{
	next_planner = planner_hook;
	planner_hook = weir_planner;
	next_start = ExecutorStart_hook;
	ExecutorStart_hook = weir_start;
	next_run = ExecutorRun_hook;
	ExecutorRun_hook = weir_run;
	next_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = weir_finish;
	next_end = ExecutorEnd_hook;
	ExecutorEnd_hook = weir_end;
	next_check = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = weir_check;
	next_utility = ProcessUtility_hook;
	ProcessUtility_hook = weir_utility;
	next_access = object_access_hook;
	object_access_hook = weir_access;
}
