/*
 * ring.c: putting events into the ring, and repairing it. ring.h says what lies
 * where, and ring_layout.c holds the compiler to it; ring_lock.c and ring_gap.c
 * are what a put needs; ring_open.c and ring_file.c make and open the file. An
 * engine links them all.
 *
 * Two facts shape every line below.
 *
 * A session may die between any two instructions, by SIGKILL or by the server's
 * own crash handling. So stores are made in an order in which weir_ring_recover
 * can always tell how far the dead one came; the orders are argued where they
 * are made. A stopped process has completed what it began, so the order in the
 * program is all that matters to recover, and release stores keep the compiler
 * to it; the running reader needs them too.
 *
 * Whoever runs as the server's account can write anything into the ring. The
 * header is therefore never trusted to address memory: an offset is used only
 * after it was reduced modulo the size that this process keeps for itself, and
 * a header that makes no sense counts as a full ring.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "ring_private.h"

#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------
 * Places: where frames lie.
 */

/* frame_size is what a frame with a payload of length bytes takes up. */
static inline uint64_t
frame_size(uint64_t length)
{
	return (WEIR_RING_FRAME_HEADER_SIZE + length + WEIR_RING_FRAME_ALIGN - 1) & ~(uint64_t)(WEIR_RING_FRAME_ALIGN - 1);
}

/* fit is the first place from at on where size bytes lie in one piece. */
static inline uint64_t
fit(const weir_ring *ring, uint64_t at, uint64_t size)
{
	uint64_t left = ring->data_size - at % ring->data_size;

	return left < size ? at + left : at;
}

/*
 * place is the frame header at a place. It lies inside the mapping whatever at
 * is, provided that at is a multiple of WEIR_RING_FRAME_ALIGN.
 */
static inline weir_frame *
place(const weir_ring *ring, uint64_t at)
{
	return (weir_frame *)(void *)(ring->data + at % ring->data_size);
}

/* pad fills the ring from at to its end, up to which is the place `to`. */
static void
pad(const weir_ring *ring, uint64_t at, uint64_t to)
{
	weir_frame *frame = place(ring, at);

	frame->commit = WEIR_COMMITTED;
	frame->length = (uint32_t)(to - at - WEIR_RING_FRAME_HEADER_SIZE);
	frame->number = 0;
	frame->kind = WEIR_FRAME_PAD;
	frame->reserved = 0;
	frame->time_us = 0;
}

/*
 * frame_at is the frame at a place below head, and NULL if what lies there
 * cannot be one. *next is where the one after it begins.
 */
static weir_frame *
frame_at(const weir_ring *ring, uint64_t at, uint64_t head, uint64_t *next)
{
	weir_frame *frame;
	uint64_t length, room;

	if (at >= head || head - at > ring->data_size || at % WEIR_RING_FRAME_ALIGN != 0)
		return NULL;
	frame = place(ring, at);
	room = ring->data_size - at % ring->data_size;
	if (room > head - at)
		room = head - at;
	length = LOAD(frame->length);
	if (frame_size(length) > room)
		return NULL;
	*next = at + frame_size(length);
	return frame;
}

/* ------------------------------------------------------------------------
 * Putting an event.
 */

uint32_t
weir_ring_largest(const weir_ring *ring)
{
	uint64_t eighth = ring->data_size / 8;

	return eighth < UINT32_C(1) << 30 ? (uint32_t)eighth : UINT32_C(1) << 30;
}

bool
weir_ring_has_room(const weir_ring *ring, uint32_t length)
{
	weir_header *h = ring->header;
	uint64_t head = LOAD(h->head), tail = LOAD_ACQUIRE(h->tail);
	uint64_t end = head;

	if (LOAD(h->gap_last) != 0)
		end = fit(ring, end, frame_size(GAP_PAYLOAD_MAX)) + frame_size(GAP_PAYLOAD_MAX);
	end = fit(ring, end, frame_size(length)) + frame_size(length);
	/* Read one after the other, tail may have passed head. */
	return length <= weir_ring_largest(ring) && (tail >= head || end - tail <= ring->data_size);
}

/*
 * reserve gives out the next number and, where there is room, a frame for it.
 * The caller holds the lock. It returns NULL where there is no room; the number
 * is then part of the gap.
 *
 * What a death between two of its steps leaves, and what becomes of it:
 *
 *   1. frame headers (padding, gap, event) are written beyond head
 *      → nobody looks beyond head; the next writer writes over them. The
 *        number was not given.
 *   2. head moves over all of them at once
 *      → the event's frame says the number; recover finds it there, raises the
 *        ring's number, and calls the frame torn. If a gap frame is in front of
 *        it, recover sees a number after the gap's last and clears the gap. The
 *        reader cannot have freed the evidence: it stops before the event's
 *        frame, which is not committed.
 *   3. the gap is cleared         → as 2; recover finds nothing to clear.
 *   4. number moves               → complete; recover frees the lock.
 *
 * head moves before number, so a reader that loads number and then head has
 * every frame of the numbers it saw. That is how it knows a hole for one.
 */
static weir_frame *
reserve(weir_ring *ring, uint32_t length, uint64_t time_us, uint64_t *number)
{
	weir_header *h = ring->header;
	uint64_t head = LOAD(h->head), tail = LOAD_ACQUIRE(h->tail);
	gap g = {LOAD(h->gap_first), LOAD(h->gap_last), LOAD(h->gap_from_us), LOAD(h->gap_to_us)};
	uint8_t gap_payload[GAP_PAYLOAD_MAX];
	uint32_t gap_length = 0;
	uint64_t gap_at = head, gap_end = head, at, end;
	weir_frame *frame;

	*number = LOAD(h->number) + 1;
	if (g.last != 0) {
		gap_length = weir_ring_gap_encode(gap_payload, &g);
		gap_at = fit(ring, head, frame_size(gap_length));
		gap_end = gap_at + frame_size(gap_length);
	}
	at = fit(ring, gap_end, frame_size(length));
	end = at + frame_size(length);

	/* Of the conditions all but the last hold unless someone wrote into the header. */
	if (length > weir_ring_largest(ring) || head > INT64_MAX || head % WEIR_RING_FRAME_ALIGN != 0 || tail > head ||
	    end - tail > ring->data_size) {
		weir_ring_gap_extend(h, *number, time_us);
		STORE_RELEASE(h->number, *number);
		/* Dead here, `lost` stays one behind. It is for display; the gap is what counts. */
		STORE_RELEASE(h->lost, LOAD(h->lost) + 1);
		return NULL;
	}

	if (g.last != 0) {
		if (gap_at != head)
			pad(ring, head, gap_at);
		frame = place(ring, gap_at);
		frame->commit = WEIR_COMMITTED;
		frame->length = gap_length;
		frame->number = g.last;
		frame->kind = WEIR_FRAME_GAP;
		frame->reserved = 0;
		frame->time_us = g.to_us;
		memcpy(frame + 1, gap_payload, gap_length);
	}
	if (at != gap_end)
		pad(ring, gap_end, at);
	frame = place(ring, at);
	frame->commit = WEIR_RESERVED;
	frame->length = length;
	frame->number = *number;
	frame->kind = WEIR_FRAME_EVENT;
	frame->reserved = 0;
	frame->time_us = time_us;

	STORE_RELEASE(h->head, end);
	if (g.last != 0)
		weir_ring_gap_clear(h);
	STORE_RELEASE(h->number, *number);
	return frame;
}

bool
weir_ring_put(weir_ring *ring, const void *payload, uint32_t length, uint64_t time_us, uint64_t *number)
{
	weir_header *h = ring->header;
	weir_frame *frame;

	if (!weir_ring_lock(h)) {
		__atomic_add_fetch(&h->unnumbered, 1, __ATOMIC_RELAXED);
		*number = 0;
		return false;
	}
	frame = reserve(ring, length, time_us, number);
	weir_ring_unlock(h);
	if (frame == NULL)
		return false;
	/* Dead before the commit, the frame becomes torn. */
	memcpy(frame + 1, payload, length);
	STORE_RELEASE(frame->commit, WEIR_COMMITTED);
	return true;
}

/* ------------------------------------------------------------------------
 * Repair, when no session lives.
 */

void
weir_ring_recover(weir_ring *ring)
{
	weir_header *h = ring->header;
	uint64_t head = LOAD(h->head), tail = LOAD(h->tail), number = LOAD(h->number);
	uint64_t gap_last = LOAD(h->gap_last), in_frames = 0, next;
	weir_frame *frame;
	bool uncounted;

	/* Only someone else's write leaves head between frames; puts would then never succeed again. */
	if (head % WEIR_RING_FRAME_ALIGN != 0) {
		head += WEIR_RING_FRAME_ALIGN - head % WEIR_RING_FRAME_ALIGN;
		STORE_RELEASE(h->head, head);
	}

	/*
	 * First the number and the gap, then the torn frames: a frame marked torn
	 * may be read and freed at once, and with it would go what a second
	 * recover needs if this one dies half-way.
	 */
	for (uint64_t at = tail; (frame = frame_at(ring, at, head, &next)) != NULL; at = next) {
		if (LOAD(frame->kind) != WEIR_FRAME_PAD && LOAD(frame->number) > in_frames)
			in_frames = LOAD(frame->number);
	}
	uncounted = gap_last > number && gap_last > in_frames;
	if (in_frames > number)
		number = in_frames;
	if (gap_last > number)
		number = gap_last;
	STORE_RELEASE(h->number, number);
	if (uncounted) /* after the number, as in reserve: a second recover must not count it again */
		STORE_RELEASE(h->lost, LOAD(h->lost) + 1);
	if (gap_last == 0 || in_frames >= gap_last)
		weir_ring_gap_clear(h); /* has its frame, or never came to be */
	else if (LOAD(h->gap_sequence) & 1)
		weir_ring_gap_end_change(h);

	for (uint64_t at = tail; (frame = frame_at(ring, at, head, &next)) != NULL; at = next) {
		if (LOAD(frame->commit) == WEIR_RESERVED)
			STORE_RELEASE(frame->commit, WEIR_TORN);
	}

	/* Whoever died in a wait is still counted; capture would wake nobody for ever. */
	for (int i = 0; i < WEIR_RING_WAIT_GROUPS; i++)
		STORE(h->wait_groups[i].waiters, 0);

	STORE(h->server_pid, (int32_t)getpid());
	STORE(h->starts, LOAD(h->starts) + 1);
	STORE_RELEASE(h->state, WEIR_STATE_RUNNING);
	weir_ring_unlock(h);
}

void
weir_ring_stopping(weir_ring *ring)
{
	STORE_RELEASE(ring->header->state, WEIR_STATE_STOPPED);
}
