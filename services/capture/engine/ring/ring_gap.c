/*
 * ring_gap.c: the gap: numbers given to events that found no room. Only the
 * lock's holder changes it; the reader looks at it without the lock, by the
 * sequence.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#include "ring_private.h"

static inline void
gap_begin_change(weir_header *h)
{
	STORE(h->gap_sequence, LOAD(h->gap_sequence) | 1);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

void
weir_ring_gap_end_change(weir_header *h)
{
	STORE_RELEASE(h->gap_sequence, (LOAD(h->gap_sequence) | 1) + 1);
}

/*
 * weir_ring_gap_extend adds a number to the gap. `last` is stored after the
 * fields that it makes valid, for a gap whose last is 0 does not exist. Dead
 * before it, the number was never given; dead after it, recover raises the
 * ring's number to it.
 */
void
weir_ring_gap_extend(weir_header *h, uint64_t number, uint64_t time_us)
{
	gap_begin_change(h);
	if (LOAD(h->gap_last) == 0) {
		STORE_RELEASE(h->gap_first, number);
		STORE_RELEASE(h->gap_from_us, time_us);
	}
	STORE_RELEASE(h->gap_to_us, time_us);
	STORE_RELEASE(h->gap_last, number);
	weir_ring_gap_end_change(h);
}

/* weir_ring_gap_clear is for a gap that has its frame: `last` goes first, for the same reason. */
void
weir_ring_gap_clear(weir_header *h)
{
	gap_begin_change(h);
	STORE_RELEASE(h->gap_last, 0);
	STORE_RELEASE(h->gap_first, 0);
	STORE_RELEASE(h->gap_from_us, 0);
	STORE_RELEASE(h->gap_to_us, 0);
	weir_ring_gap_end_change(h);
}

static uint8_t *
put_varint(uint8_t *p, uint64_t value)
{
	while (value >= 0x80) {
		*p++ = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	*p++ = (uint8_t)value;
	return p;
}

/* put_time writes a google.protobuf.Timestamp as the field with that tag. */
static uint8_t *
put_time(uint8_t *p, uint8_t tag, uint64_t time_us)
{
	uint8_t *length;

	*p++ = tag;
	length = p++;
	if (time_us / 1000000 != 0) {
		*p++ = 0x08; /* seconds = 1 */
		p = put_varint(p, time_us / 1000000);
	}
	if (time_us % 1000000 != 0) {
		*p++ = 0x10; /* nanos = 2 */
		p = put_varint(p, time_us % 1000000 * 1000);
	}
	*length = (uint8_t)(p - length - 1);
	return p;
}

/* weir_ring_gap_encode writes the gap as a weir.activity.v1.Gap. */
uint32_t
weir_ring_gap_encode(uint8_t *payload, const gap *g)
{
	uint8_t *p = payload;

	*p++ = 0x08; /* first = 1 */
	p = put_varint(p, g->first);
	*p++ = 0x10; /* last = 2 */
	p = put_varint(p, g->last);
	p = put_time(p, 0x1a, g->from_us); /* from = 3 */
	p = put_time(p, 0x22, g->to_us);   /* to = 4 */
	*p++ = 0x28;                       /* cause = 5 */
	*p++ = 1;                          /* GAP_CAUSE_RING_FULL */
	return (uint32_t)(p - payload);
}
