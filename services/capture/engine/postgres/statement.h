/*
 * statement.h: the statements that are open in this session.
 *
 * A statement is open from ExecutorStart or ProcessUtility until its end,
 * whatever the end is, and then has exactly one event. It is no stack: a cursor
 * stays open while others come and go.
 *
 * A frame is one call of the server into a statement: it knows which statements
 * were opened within it, so that an error passing through closes just those.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_STATEMENT_H
#define WEIR_STATEMENT_H

#include "postgres.h"

#include "executor/execdesc.h"
#include "nodes/plannodes.h"

#include "classify.h"
#include "event.h"
#include "numbering.h"

typedef struct weir_statement {
	struct weir_statement *older;
	uint64 serial; /* in the order of opening */
	const QueryDesc *query; /* NULL for a utility */
	const char *source;
	int frames; /* calls that are in it now; 0: suspended, or between calls */
	bool in_run; /* one of them is ExecutorRun: its rows are not added yet */
	SubTransactionId subtransaction;
	bool top;
	weir_ids ids;
	uint64 substatement_id;
	TimestampTz started;
	weir_verb verb;
	weir_slice text;
	char *kept_text; /* a copy of it, where the string may go first */
	weir_secrecy secrecy;
	bool has_rows;
	uint64 rows;
	int objects;
	int objects_omitted;
	/* Functions listed already, so that a loop does not list one a hundred times. */
	int functions;
	Oid function[8];
	weir_buffer details;
	uint8 details_space[320];
} weir_statement;

typedef struct weir_call {
	ErrorContextCallback context; /* sees errors on their way, caught or not */
	weir_statement *statement; /* NULL where the call is in none of ours */
	weir_statement *running;
	weir_ids *ids;
	uint64 mark;
	int depth;
} weir_call;

/*
 * weir_statement_of_query opens a statement for a plan that begins to run, and
 * gathers what cannot be read later. NULL where it does not count: the outermost
 * level of a parallel worker, or no memory (then its event is written at once).
 */
extern weir_statement *weir_statement_of_query(const QueryDesc *query);

/* weir_statement_of_utility opens one for a utility. */
extern weir_statement *weir_statement_of_utility(const PlannedStmt *plan, const char *source, bool top, ParamListInfo params);

/* weir_statement_find returns the open statement of a plan, or NULL. */
extern weir_statement *weir_statement_find(const QueryDesc *query);

/* weir_statement_find_top returns the client's newest open statement of that string, or NULL. */
extern weir_statement *weir_statement_find_top(const char *source);

/* weir_statement_of_client returns the client's statement that runs, or NULL. */
extern weir_statement *weir_statement_of_client(void);

/* weir_statement_tell_started writes the event of its beginning. */
extern void weir_statement_tell_started(const weir_statement *s);

/* weir_statement_close ends a statement: its event is written, or held until the outcome is certain. */
extern void weir_statement_close(weir_statement *s, const weir_outcome *outcome);

extern void weir_call_enter(weir_call *call, weir_statement *s);
extern void weir_call_leave(const weir_call *call);

/* weir_calls_are_open says whether there is one that has not left. */
extern bool weir_calls_are_open(void);

/*
 * weir_run_enter and weir_run_leave go round ExecutorRun, inside the call: each
 * run counts its rows from 0. suspended says that there may be another run. s
 * may be NULL.
 */
extern void weir_run_enter(weir_statement *s);
extern void weir_run_leave(weir_statement *s, bool suspended);

/* weir_call_fail, in PG_CATCH, closes the call's statement and those opened within it. */
extern void weir_call_fail(const weir_call *call);

/* weir_statement_add_relations lists relations in the utility that runs now: COPY checks them by itself. */
extern void weir_statement_add_relations(List *range_table, List *permissions);

/* weir_statement_add_function lists a function in the statement that runs now. */
extern void weir_statement_add_function(Oid function);

/*
 * weir_inner_failed writes the event of a statement inside another that failed
 * before it was planned, if the error being raised is such a one. There is no
 * hook for it, and whoever runs it may catch the error.
 */
extern void weir_inner_failed(void);

/*
 * weir_plan_failed writes the event of a query whose planning failed, in
 * PG_CATCH; catalogs are not read.
 */
extern void weir_plan_failed(const Query *query, const char *source);

/* weir_plan_prepare learns the names that weir_plan_failed would need. */
extern void weir_plan_prepare(const Query *query, const char *source);

/* weir_plan_done is told when it is planned, or cannot be. */
extern void weir_plan_done(void);

/*
 * weir_plan_show lets the query that is planned be seen in the session's slot:
 * planning is about to call a user's function.
 */
extern void weir_plan_show(void);

/*
 * weir_statements_show_open is told when the client may send the next: of what
 * others see of this session, statements that are still open are left, portals
 * that were not read to their end.
 */
extern void weir_statements_show_open(void);

/* weir_statements_end closes everything at the end of the session; true where the outcome was told of. */
extern bool weir_statements_end(const weir_outcome *outcome);

/* weir_statements_init registers the transaction callbacks; once per server. */
extern void weir_statements_init(void);

#endif
