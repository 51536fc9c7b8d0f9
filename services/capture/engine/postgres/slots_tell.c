/*
 * slots_tell.c: what a slot holds, as events; see slots.h.
 *
 * The file outlives the server, and its account can write into it: lengths are
 * not believed. It runs in the postmaster too, so it takes no memory.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include <signal.h>

#include "utils/timestamp.h"

#include "notice.h"
#include "outcome.h"
#include "slots_private.h"

/* More than a slot can fill, and what the smallest ring takes. */
static uint8 space[8 * 1024];
static weir_buffer buffer = WEIR_BUFFER_INIT(space);

bool
weir_slot_copy(const weir_slot *s, weir_slot *copy)
{
	uint32 before = __atomic_load_n(&s->sequence, __ATOMIC_ACQUIRE);

	if (before & 1)
		return false;
	memcpy(copy, s, sizeof *copy);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&s->sequence, __ATOMIC_RELAXED) == before;
}

/* begin_event writes what all events of a slot have. */
static void
begin_event(const weir_slot *s, enum weir_kind kind, TimestampTz started, uint64 statement, uint64 substatement)
{
	uint32 in_force = s->session_in_force & 1;

	weir_buffer_reset(&buffer);
	weir_put_uint(&buffer, 1, kind);
	weir_put_time(&buffer, 2, started);
	weir_put_raw(&buffer, s->session[in_force], Min(s->session_length[in_force], sizeof s->session[0]));
	weir_put_uint(&buffer, 5, statement);
	weir_put_uint(&buffer, 6, substatement);
}

/* finish_event gives it to the ring; outcome may be NULL. */
static void
finish_event(TimestampTz now, const weir_outcome *outcome)
{
	uint64_t number;

	weir_put_time(&buffer, 3, now);
	if (outcome)
		weir_put_outcome(&buffer, outcome);
	if (!buffer.short_of_memory)
		weir_ring_put(&weir_the_ring, buffer.data, (uint32_t) buffer.length, weir_unix_us(now), &number);
	weir_buffer_reset(&buffer);
}

static void
tell_statement(const weir_slot *s, enum weir_kind kind, TimestampTz now, const weir_outcome *outcome)
{
	begin_event(s, kind, s->started, s->statement_id, s->substatement_id);
	weir_put_uint(&buffer, 7, s->class);
	weir_put_bytes(&buffer, 8, s->command, strnlen(s->command, sizeof s->command));
	weir_put_cut_text(&buffer, 10, (weir_slice) {s->text, Min(s->text_kept, sizeof s->text)}, s->text_length, NULL);
	finish_event(now, outcome);
}

void
weir_slot_tell_end(const weir_slot *s, const char *why)
{
	TimestampTz now = GetCurrentTimestamp();
	bool known = s->thrown_out[0] != '\0';
	weir_outcome outcome = {.message = known ? s->thrown_out_message : why};

	/* 57P02, crash_shutdown, is what the server tells those that it throws out because of a crash. */
	strlcpy(outcome.sqlstate, known ? s->thrown_out : "57P02", sizeof outcome.sqlstate);
	outcome.kept = known ? strnlen(s->thrown_out_message, sizeof s->thrown_out_message) : strlen(why);
	if (s->open)
		tell_statement(s, WEIR_KIND_STATEMENT, now, &outcome);
	if (s->logged_in) {
		begin_event(s, WEIR_KIND_DISCONNECT, now, s->last_id + 1, 1);
		weir_put_uint(&buffer, 7, WEIR_CLASS_MISC);
		weir_put_string(&buffer, 8, "DISCONNECT");
		finish_event(now, &outcome);
	}
	if ((!known || s->unexpected) && s->has_client && (s->open || s->logged_in)) {
		char subject[32];

		snprintf(subject, sizeof subject, "process %u", s->pid);
		begin_event(s, WEIR_KIND_NOTICE, now, s->last_id + 1, 1);
		weir_put_notice(&buffer, WEIR_NOTICE_SESSION_CRASHED, subject);
		finish_event(now, NULL);
	}
}

void
weir_slots_recover(bool all_dead)
{
	for (uint32 i = 0; weir_slots && i < weir_slots->count; i++) {
		weir_slot *s = &weir_slots->slot[i];

		/* A postmaster can exit while sessions live; they end by themselves, and write. */
		if (s->pid == 0 || (!all_dead && kill((pid_t) s->pid, 0) == 0))
			continue;
		if (weir_ring_mode(&weir_the_ring) != WEIR_MODE_OFF)
			weir_slot_tell_end(s, "the server process of this session died");
		weir_slot_clear(s);
	}
}

void
weir_slots_tell_long(TimestampTz now, int64 longer_us)
{
	static weir_slot copy;

	for (uint32 i = 0; weir_slots && i < weir_slots->count; i++) {
		weir_slot *s = &weir_slots->slot[i];

		/* A look without care first: most slots have nothing to tell. */
		if (!s->open || s->serial == s->serial_told || now - s->started < longer_us)
			continue;
		if (!weir_slot_copy(s, &copy) || !copy.open || now - copy.started < longer_us)
			continue;
		tell_statement(&copy, WEIR_KIND_STARTED, now, NULL);
		s->serial_told = copy.serial;
	}
}
