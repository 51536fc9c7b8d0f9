/*
 * watch.c: each session looks after its own audit; see watch.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"

#include "hooks.h"
#include "notice.h"
#include "slots.h"
#include "watch.h"

/*
 * The loader's list of libraries from ours on. It is appended to, so a session
 * that loads none sees the same end. Compared by name: what the C library opens
 * and closes for itself (converters of character sets) may come back elsewhere.
 */
static const struct link_map *own;
static const struct link_map *last;
static int libraries;

#define KNOWN_MAX 512
static uint64 known[KNOWN_MAX];
static int known_count;

static uint64
hash_of(const char *name)
{
	uint64 hash = UINT64CONST(0xcbf29ce484222325);

	for (; *name; name++)
		hash = (hash ^ (unsigned char) *name) * UINT64CONST(0x100000001b3);
	return hash;
}

/* learn returns whether a library was not known. */
static bool
learn(uint64 hash)
{
	for (int i = 0; i < known_count; i++)
		if (known[i] == hash)
			return false;
	/* Full, every further one counts as new: told too often rather than not. */
	if (known_count < KNOWN_MAX)
		known[known_count++] = hash;
	return true;
}

/*
 * is_ordinary says whether a library lies where the system's and the server's
 * lie. An extension's is then loaded by every session that uses it.
 */
static bool
is_ordinary(const char *path)
{
	size_t n = strlen(pkglib_path);

	return (strncmp(path, pkglib_path, n) == 0 && path[n] == '/') || strncmp(path, "/lib", 4) == 0 ||
		strncmp(path, "/usr/lib", 8) == 0;
}

static void
look_at_libraries(bool tell)
{
	const struct link_map *m;

	libraries = 0;
	for (m = own; m; m = m->l_next) {
		last = m;
		libraries++;
		if (!m->l_name[0] || !learn(hash_of(m->l_name)) || !tell)
			continue;
		if (!is_ordinary(m->l_name) || weir_slots_first(hash_of(m->l_name)))
			weir_notice(WEIR_NOTICE_LIBRARY_LOADED, m->l_name);
	}
}

static inline bool
libraries_changed(void)
{
	const struct link_map *m, *end = NULL;
	int n = 0;

	for (m = own; m; m = m->l_next) {
		end = m;
		n++;
	}
	return n != libraries || end != last;
}

void
weir_watch_start(void)
{
	Dl_info self;
	void *handle = NULL;
	struct link_map *map;

	weir_hooks_expect();
	weir_messages_expect();
	if (dladdr((void *) weir_watch_start, &self) != 0)
		handle = dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
	if (!handle || dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0)
		return;
	own = map;
	look_at_libraries(false);
}

/* look_at_guard tells when the guard has stood still, and has it go on: it may have been stopped by a signal. */
static void
look_at_guard(void)
{
	int guard = weir_slots_guard_silent(GetCurrentStatementStartTimestamp());
	char subject[64];

	if (likely(guard == 0))
		return;
	(void) kill(guard, SIGCONT);
	snprintf(subject, sizeof subject, "weir guard, process %d", guard);
	weir_notice(WEIR_NOTICE_GUARD_SILENT, subject);
}

void
weir_watch(void)
{
	char subject[512];

	if (unlikely(!weir_hooks_intact())) {
		if (weir_hooks_put_back(subject, sizeof subject))
			weir_notice(WEIR_NOTICE_HOOK_REPLACED, subject);
	}
	if (unlikely(!weir_messages_intact())) {
		if (weir_messages_put_back(subject, sizeof subject))
			weir_notice(WEIR_NOTICE_MESSAGES_REPLACED, subject);
	}
	if (unlikely(libraries_changed()))
		look_at_libraries(true);
	look_at_guard();
}

void
weir_watch_before(Node *statement)
{
	/* Its code can do anything to this session: it is told while that is still ours. */
	if (statement && IsA(statement, LoadStmt))
		weir_notice(WEIR_NOTICE_LIBRARY_LOADED, castNode(LoadStmt, statement)->filename);
}

bool
weir_setting_counts(const char *name)
{
	return !name || pg_strncasecmp(name, "weir.", 5) == 0 || pg_strcasecmp(name, "shared_preload_libraries") == 0 ||
		pg_strcasecmp(name, "session_preload_libraries") == 0 || pg_strcasecmp(name, "local_preload_libraries") == 0;
}

bool
weir_watch_setting(Node *statement, char *subject, size_t size)
{
	const char *by;
	const VariableSetStmt *set;

	if (!statement)
		return false;
	switch (nodeTag(statement)) {
		case T_AlterSystemStmt:
			by = "ALTER SYSTEM";
			set = castNode(AlterSystemStmt, statement)->setstmt;
			break;
		case T_AlterDatabaseSetStmt:
			by = "ALTER DATABASE";
			set = castNode(AlterDatabaseSetStmt, statement)->setstmt;
			break;
		case T_AlterRoleSetStmt:
			by = "ALTER ROLE";
			set = castNode(AlterRoleSetStmt, statement)->setstmt;
			break;
		default:
			return false;
	}
	if (!weir_setting_counts(set->name))
		return false;
	snprintf(subject, size, "%s, by %s", set->name ? set->name : "all settings", by);
	return true;
}

void
weir_watch_after(const char *subject)
{
	weir_notice(WEIR_NOTICE_SETTING_CHANGED, subject);
}
