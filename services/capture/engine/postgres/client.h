/*
 * client.h: what the client is told, and which statement it is about.
 *
 * The messages to the client say what no hook does: that a statement failed
 * before it had a plan, that one which seemed done failed at its commit, that
 * an answer is out.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_CLIENT_H
#define WEIR_CLIENT_H

#include "postgres.h"

#include "outcome.h"
#include "statement.h"

/* What is known between one ReadyForQuery and the next. */
typedef struct weir_client_state {
	/*
	 * The last statement of the client: its string, where in it the next one
	 * begins, and whether the plan that sets its command tag was among those
	 * seen; rules make several plans of one statement.
	 */
	const char *source;
	weir_slice text;
	int end;
	bool tagged;
	/* The one that the executor ran last, while it is open: a portal stays so after its last row. */
	weir_statement *last_run;
	bool answered; /* CommandComplete went out for the statement that is held */
	bool told; /* the error on its way has its event */
	bool replicated; /* the replication command at hand has its event */
} weir_client_state;

extern weir_client_state weir_client;

/* weir_client_error is told of each error that goes to the client, and finds the statement it belongs to. */
extern void weir_client_error(const weir_outcome *outcome);

/*
 * What else the client is told: CommandComplete, PortalSuspended (there are more
 * rows to ask for), FunctionCallResponse (of one called by its number, without a
 * statement), ReadyForQuery.
 */
extern void weir_client_answered(void);
extern void weir_client_suspended(void);
extern void weir_client_called(void);
extern void weir_client_ready(void);

/*
 * weir_client_replicates is told when a replication command may be complete, or
 * begins to stream, which may never end. There is no hook for those.
 */
extern void weir_client_replicates(void);

#endif
