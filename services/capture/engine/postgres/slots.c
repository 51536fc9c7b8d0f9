/*
 * slots.c: what each session is doing, kept where its death does not take it
 * along; see slots.h. slots_file.c makes the memory, slots_tell.c writes what a
 * slot holds as events.
 *
 * A session may die between any two stores. Its slot is therefore never in a
 * state that says something untrue: a statement is `open` only after all of it
 * is there, and a session block is written beside the one that counts. What
 * readers need to tell a whole copy from one taken half-way is the sequence.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include <signal.h>

#include "storage/pmsignal.h"

#include "slots_private.h"

/* This process's slot; NULL where it has none, and always in the postmaster. */
static weir_slot *mine;

/* begin_change and end_change go round every change that a reader must not see half of. */
static inline void
begin_change(weir_slot *s)
{
	__atomic_store_n(&s->sequence, s->sequence | 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

static inline void
end_change(weir_slot *s)
{
	__atomic_store_n(&s->sequence, (s->sequence | 1) + 1, __ATOMIC_RELEASE);
}

void
weir_slot_join(void)
{
	uint32 count = weir_slots ? weir_slots->count : 0;
	weir_slot *s;

	if (mine)
		return;
	for (uint32 i = 0; i < count; i++) {
		uint32 none = 0;

		s = &weir_slots->slot[((uint32) MyProcPid + i) % count];
		if (__atomic_compare_exchange_n(&s->pid, &none, (uint32) MyProcPid, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
			mine = s;
			mine->has_client = weir_has_client();
			return;
		}
	}
	/* There are more slots than sessions can be. Without one, this session's crash shows as its DISCONNECT missing. */
}

void
weir_slot_leave(void)
{
	weir_slot *s = mine;

	mine = NULL;
	if (s)
		weir_slot_clear(s);
}

void
weir_slot_clear(weir_slot *s)
{
	begin_change(s);
	s->open = s->logged_in = s->has_client = s->unexpected = false;
	s->last_id = 0;
	s->session_length[0] = s->session_length[1] = 0;
	s->thrown_out[0] = '\0';
	end_change(s);
	__atomic_store_n(&s->pid, 0, __ATOMIC_RELEASE);
}

void
weir_slot_session(const weir_buffer *block)
{
	uint32 other;

	if (!mine || block->length > sizeof mine->session[0])
		return;
	other = !mine->session_in_force;
	memcpy(mine->session[other], block->data, block->length);
	begin_change(mine);
	mine->session_length[other] = (uint32) block->length;
	mine->session_in_force = other;
	end_change(mine);
}

void
weir_slot_logged_in(void)
{
	if (mine)
		mine->logged_in = true;
}

void
weir_slot_numbered(uint64 statement_id)
{
	if (mine)
		mine->last_id = statement_id;
}

void
weir_slot_begin(const weir_slot_statement *statement)
{
	weir_slot *s = mine;
	weir_slice beginning = statement->text;
	const weir_secrets *hidden;
	weir_secrets found;
	size_t shown;

	if (!s)
		return;
	/* More than this of a long text is not shown, whatever is replaced in it. */
	beginning.length = Min(beginning.length, 8 * WEIR_SLOT_TEXT);
	hidden = weir_secrets_in(beginning, statement->secrecy, &found);
	shown = weir_shown_length(beginning, hidden) + (statement->text.length - beginning.length);

	begin_change(s);
	s->open = false;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	s->statement_id = statement->statement_id;
	s->substatement_id = statement->substatement_id;
	s->started = statement->started;
	s->class = statement->class;
	strlcpy(s->command, statement->command ? statement->command : "", sizeof s->command);
	s->text_kept = (uint32) weir_show(s->text, sizeof s->text, beginning, hidden);
	s->text_length = s->text_kept < shown ? shown : 0;
	s->serial++;
	__atomic_store_n(&s->open, true, __ATOMIC_RELEASE);
	end_change(s);
}

void
weir_slot_end(void)
{
	weir_slot *s = mine;

	if (!s || !s->open)
		return;
	begin_change(s);
	s->open = false;
	end_change(s);
}

/* field finds a field of a NoticeResponse. */
static const char *
field(const char *body, size_t length, char wanted)
{
	const char *end = body + length;

	while (body < end && *body) {
		if (*body == wanted)
			return body + 1;
		body += strnlen(body, end - body) + 1;
	}
	return "";
}

void
weir_slot_thrown_out(const char *body, size_t length)
{
	const char *sqlstate = field(body, length, 'C');
	sigset_t blocked;

	if (!mine || strncmp(sqlstate, "57P0", 4) != 0)
		return;
	/*
	 * Anybody can raise a warning with that SQLSTATE. Only the handler of
	 * SIGQUIT, from which there is no return, sends one with the signal blocked.
	 */
	if (sigprocmask(SIG_SETMASK, NULL, &blocked) != 0 || !sigismember(&blocked, SIGQUIT))
		return;
	strlcpy(mine->thrown_out_message, field(body, length, 'M'), sizeof mine->thrown_out_message);
	strlcpy(mine->thrown_out, sqlstate, sizeof mine->thrown_out);
#if PG_VERSION_NUM >= 140000
	mine->unexpected = GetQuitSignalReason() == PMQUIT_NOT_SENT;
#endif
}
