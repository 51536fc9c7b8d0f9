/*
 * hooks_watched.c: whether the server's hooks are still what they were, and
 * putting them back; see hooks.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include <dlfcn.h>

#include "catalog/objectaccess.h"
#include "executor/executor.h"
#include "optimizer/planner.h"
#include "tcop/utility.h"

#include "hooks.h"

/* Where the server keeps its hooks, what they are to be, and what they were when last looked at. */
static struct {
	const char *name;
	void **place;
	void *expected;
	void *seen;
	bool told;
} hooks[] = {
	{"planner_hook", (void **) &planner_hook, NULL, NULL, false},
	{"ExecutorStart_hook", (void **) &ExecutorStart_hook, NULL, NULL, false},
	{"ExecutorRun_hook", (void **) &ExecutorRun_hook, NULL, NULL, false},
	{"ExecutorFinish_hook", (void **) &ExecutorFinish_hook, NULL, NULL, false},
	{"ExecutorEnd_hook", (void **) &ExecutorEnd_hook, NULL, NULL, false},
	{"ExecutorCheckPerms_hook", (void **) &ExecutorCheckPerms_hook, NULL, NULL, false},
	{"ProcessUtility_hook", (void **) &ProcessUtility_hook, NULL, NULL, false},
	{"object_access_hook", (void **) &object_access_hook, NULL, NULL, false},
};

void
weir_hooks_expect(void)
{
	for (size_t i = 0; i < lengthof(hooks); i++)
		hooks[i].expected = hooks[i].seen = *hooks[i].place;
}

bool
weir_hooks_intact(void)
{
	bool intact = true;

	for (size_t i = 0; i < lengthof(hooks); i++)
		intact &= *hooks[i].place == hooks[i].seen;
	return intact;
}

bool
weir_hooks_put_back(char *subject, size_t size)
{
	const char *by = "emptied, put back";
	size_t length = 0;
	Dl_info library;

	for (size_t i = 0; i < lengthof(hooks); i++) {
		void *now = *hooks[i].place;

		if (now == hooks[i].seen)
			continue;
		hooks[i].seen = now;
		if (now == hooks[i].expected)
			continue; /* whoever took it gave it back */
		if (!now)
			*hooks[i].place = hooks[i].seen = hooks[i].expected;
		else
			by = dladdr(now, &library) && library.dli_fname ? library.dli_fname : "taken";
		if (!hooks[i].told && length < size)
			length += snprintf(subject + length, size - length, "%s%s", length ? ", " : "", hooks[i].name);
		hooks[i].told = true;
	}
	if (length > 0 && length < size)
		snprintf(subject + length, size - length, ": %s", by);
	return length > 0;
}
