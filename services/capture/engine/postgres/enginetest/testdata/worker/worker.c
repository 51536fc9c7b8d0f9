/*
 * worker.c: a background worker that runs a few statements and ends, as the
 * workers of schedulers do.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"

PG_MODULE_MAGIC;

void _PG_init(void);
PGDLLEXPORT void worker_main(Datum arg);

void
worker_main(Datum arg)
{
	static const char *const statements[] = {"create table made_by_worker (n int)", "insert into made_by_worker values (1), (2)",
		"do $$begin perform n from made_by_worker; end$$", "selec 'failed'"};

	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection("postgres", NULL, 0);
	for (int i = 0; i < (int) lengthof(statements); i++) {
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		SPI_connect();
		PushActiveSnapshot(GetTransactionSnapshot());
		debug_query_string = statements[i];
		SPI_execute(statements[i], false, 0);
		SPI_finish();
		PopActiveSnapshot();
		CommitTransactionCommand();
		debug_query_string = NULL;
	}
}

void
_PG_init(void)
{
	BackgroundWorker worker = {.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished, .bgw_restart_time = BGW_NEVER_RESTART};

	strlcpy(worker.bgw_name, "a worker", sizeof worker.bgw_name);
	strlcpy(worker.bgw_library_name, "worker", sizeof worker.bgw_library_name);
	strlcpy(worker.bgw_function_name, "worker_main", sizeof worker.bgw_function_name);
	RegisterBackgroundWorker(&worker);
}
