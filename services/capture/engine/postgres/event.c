/*
 * event.c: one weir.activity.v1.Activity, from its parts to the ring.
 *
 * The parts have budgets that add up to less than the ring takes at once, so
 * an event is never too large; with the default ring they are what weir.h says.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "event.h"
#include "session.h"
#include "slots.h"
#include "sync.h"

static uint8 now_space[8 * 1024];
static uint8 held_space[8 * 1024];
static weir_buffer now_buffer = WEIR_BUFFER_INIT(now_space);
static weir_buffer held_buffer = WEIR_BUFFER_INIT(held_space);
static TimestampTz held_ended;

/* Rows of the held event: if a change fails after all, it affected none. */
static bool held_has_rows;
static uint64 held_rows;
static bool held_reads;

static uint64 held_statement;

static uint64 last_number;

/* True from what got no number, and so will never be durable, until the client has been told or not. */
static bool unnumbered;

/* True where the held statement has secrets: its error may quote one. */
static weir_quotes held_guarded;

/*
 * The ring's largest payload is shared out: half to the text, a quarter to the
 * details, the rest to the session, the error message and the fixed fields.
 * The smallest ring takes 8 KiB.
 */
static size_t
text_limit(void)
{
	return Min(WEIR_TEXT_LIMIT, weir_ring_largest(&weir_the_ring) / 2);
}

size_t
weir_details_limit(void)
{
	return Min(WEIR_TEXT_LIMIT, weir_ring_largest(&weir_the_ring) / 4);
}

/*
 * encode writes all that is certain of an event. Returns what its error may
 * quote: outcome's, or one to come.
 */
static weir_quotes
encode(weir_buffer *b, const weir_event *e, const weir_outcome *outcome)
{
	weir_quotes guarded = WEIR_QUOTES_NOTHING;

	weir_buffer_reset(b);
	weir_put_uint(b, 1, e->kind);
	weir_put_time(b, 2, e->started);
	weir_put_session(b);
	weir_put_uint(b, 5, e->statement_id);
	weir_put_uint(b, 6, e->substatement_id);
	weir_put_uint(b, 7, e->class);
	weir_put_string(b, 8, e->command);
	if (e->has_exit_code)
		weir_put_present_uint(b, 15, (uint64) (int64) e->exit_code);
	if (e->details)
		weir_put_raw(b, e->details->data, e->details->length);
	if (e->has_text) {
		/* What failed may have failed by a word misspelt in quotes: it is looked at more closely. */
		weir_secrecy secrecy = outcome && e->secrecy < WEIR_FAILED ? WEIR_FAILED : e->secrecy;
		weir_secrets found;
		const weir_secrets *hidden = weir_secrets_in(e->text, secrecy, &found);
		size_t limit = text_limit();

		if (hidden) {
			if (outcome)
				guarded = weir_quotes_of(weir_outcome_text(outcome), e->text, hidden);
			if (!outcome || secrecy == WEIR_UNPARSED)
				guarded = Max(guarded, WEIR_QUOTES_SOMEWHERE);
		}
		/* Without memory for all of it, what fits is kept. */
		if (!weir_buffer_reserve(b, WEIR_TEXT_SIZE(Min(weir_shown_length(e->text, hidden), limit)))) {
			b->short_of_memory = false;
			limit = b->capacity - b->length > 2 * WEIR_TEXT_SIZE(0) ? b->capacity - b->length - 2 * WEIR_TEXT_SIZE(0) : 0;
		}
		weir_put_text(b, 10, e->text, hidden, limit);
	}
	return guarded;
}

/* put gives an encoded event to the ring. */
static void
put(const weir_buffer *b, TimestampTz ended)
{
	uint64_t number;

	if (weir_synchronous())
		weir_sync_make_room((uint32) b->length);
	weir_ring_put(&weir_the_ring, b->data, (uint32_t) b->length, weir_unix_us(ended), &number);
	if (number)
		last_number = number;
	else if (weir_synchronous())
		unnumbered = true;
}

bool
weir_event_unnumbered(void)
{
	return unnumbered;
}

void
weir_event_forgive(void)
{
	unnumbered = false;
}

/* finish writes the end of an event and gives it to the ring. */
static void
finish(weir_buffer *b, TimestampTz ended, const weir_outcome *outcome, weir_quotes guarded)
{
	weir_put_time(b, 3, ended);
	if (outcome) {
		weir_outcome shown = *outcome;

		weir_outcome_redact(&shown, guarded);
		weir_put_outcome(b, &shown);
	}
	put(b, ended);
	weir_buffer_reset(b);
}

uint64
weir_event_last(void)
{
	return last_number;
}

void
weir_event_put(const weir_event *event, TimestampTz ended, const weir_outcome *outcome)
{
	weir_quotes guarded = encode(&now_buffer, event, outcome);

	if (event->has_rows)
		weir_put_present_uint(&now_buffer, 12, event->rows);
	finish(&now_buffer, ended, outcome, guarded);
}

void
weir_event_hold(const weir_event *event, TimestampTz ended)
{
	weir_event_release(NULL);
	held_guarded = encode(&held_buffer, event, NULL);
	held_ended = ended;
	held_has_rows = event->has_rows;
	held_rows = event->rows;
	held_reads = event->class == WEIR_CLASS_READ;
	held_statement = event->statement_id;
}

bool
weir_event_held(void)
{
	return held_buffer.length > 0;
}

void
weir_event_release(const weir_outcome *outcome)
{
	if (!held_buffer.length)
		return;
	if (held_has_rows && (!outcome || held_reads))
		weir_put_present_uint(&held_buffer, 12, held_rows);
	finish(&held_buffer, outcome ? GetCurrentTimestamp() : held_ended, outcome, held_guarded);
	weir_slot_end();
}

uint64
weir_event_held_statement(void)
{
	return held_statement;
}

void
weir_event_tell_held_started(void)
{
	size_t length = held_buffer.length;
	TimestampTz now = GetCurrentTimestamp();

	/* The kind is what an event begins with: a tag and one byte. */
	held_buffer.data[1] = WEIR_KIND_STARTED;
	weir_put_time(&held_buffer, 3, now);
	put(&held_buffer, now);
	held_buffer.data[1] = WEIR_KIND_STATEMENT;
	held_buffer.length = length;
}
