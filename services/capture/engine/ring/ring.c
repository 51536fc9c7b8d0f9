/*
 * ring.c: putting events into the ring, and repairing it. ring.h says what lies
 * where; ring_open.c makes and opens the file. An engine links both.
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

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field " has moved")

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the ring is little-endian");
_Static_assert(sizeof(weir_header) == WEIR_RING_HEADER_SIZE, "the header's size is part of the layout");
_Static_assert(sizeof(weir_frame) == WEIR_RING_FRAME_HEADER_SIZE, "the frame header's size is part of the layout");
_Static_assert(sizeof(weir_checkpoint) == 128, "a checkpoint's size is part of the layout");
AT(weir_header, magic, 0);
AT(weir_header, layout, 8);
AT(weir_header, header_size, 12);
AT(weir_header, data_size, 16);
AT(weir_header, epoch, 24);
AT(weir_header, engine, 32);
AT(weir_header, server_version, 36);
AT(weir_header, state, 40);
AT(weir_header, server_pid, 44);
AT(weir_header, started_us, 48);
AT(weir_header, starts, 56);
AT(weir_header, server_version_text, 64);
AT(weir_header, lock, 128);
AT(weir_header, head, 136);
AT(weir_header, number, 144);
AT(weir_header, lost, 152);
AT(weir_header, unnumbered, 160);
AT(weir_header, released, 168);
AT(weir_header, released_through, 176);
AT(weir_header, released_at_us, 184);
AT(weir_header, gap_sequence, 192);
AT(weir_header, gap_first, 200);
AT(weir_header, gap_last, 208);
AT(weir_header, gap_from_us, 216);
AT(weir_header, gap_to_us, 224);
AT(weir_header, tail, 256);
AT(weir_header, stored, 264);
AT(weir_header, durable, 272);
AT(weir_header, capture_pid, 280);
AT(weir_header, capture_seen_us, 288);
AT(weir_header, path, 296);
AT(weir_header, refused, 304);
AT(weir_header, mode, 320);
AT(weir_header, sync_level, 324);
AT(weir_header, on_failure, 328);
AT(weir_header, sync_timeout_ms, 332);
AT(weir_header, policy_generation, 336);
AT(weir_header, bell, 384);
AT(weir_header, capture_sleeps, 388);
AT(weir_header, active_checkpoint, 448);
AT(weir_header, cut_sequence, 456);
AT(weir_header, cut_first, 464);
AT(weir_header, cut_last, 472);
AT(weir_header, cut_from_us, 480);
AT(weir_header, cut_to_us, 488);
AT(weir_header, checkpoints, 512);
AT(weir_header, wait_groups, 1024);
AT(weir_header, source, 1536);
AT(weir_header, settings_length, 4096);
AT(weir_header, settings_crc, 4100);
AT(weir_header, settings, 4104);
AT(weir_checkpoint, tail, 0);
AT(weir_checkpoint, number, 8);
AT(weir_checkpoint, hash, 16);
AT(weir_checkpoint, lost, 48);
AT(weir_checkpoint, at_us, 56);
AT(weir_checkpoint, spooled, 64);
AT(weir_checkpoint, durable_hash, 72);
AT(weir_frame, commit, 0);
AT(weir_frame, length, 4);
AT(weir_frame, number, 8);
AT(weir_frame, kind, 16);
AT(weir_frame, time_us, 24);

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
 * The lock: the holder's pid, so that a look at the file says who hangs.
 */

/*
 * getpid() is a system call in today's libraries, so the answer is kept; a
 * child of fork() asks again. Threads of one server share a pid,
 * which does not matter: nobody decides anything by it.
 */
static uint32_t own_pid;

void
weir_ring_forget_pid(void)
{
	STORE(own_pid, 0);
}

static uint32_t
holder(void)
{
	uint32_t pid = LOAD(own_pid);

	if (pid == 0) {
		pid = (uint32_t)getpid();
		STORE(own_pid, pid);
	}
	return pid;
}

static inline void
pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield");
#endif
}

/* try_lock looks before it writes: a spinning writer takes the line from the holder. */
static inline bool
try_lock(weir_header *h, uint32_t me)
{
	uint32_t none = 0;

	return LOAD(h->lock) == 0 &&
	       __atomic_compare_exchange_n(&h->lock, &none, me, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static int64_t
monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/*
 * lock_contended spins, then lets others run, then sleeps, for a second at
 * most. The lock is held for some ten instructions, so only a holder that was
 * stopped or killed keeps it that long. Having waited a second in vain, a
 * process does not wait again for the same holder while nothing has moved:
 * otherwise a stopped session would slow every other one to an event a second.
 */
static bool
lock_contended(weir_header *h, uint32_t me)
{
	static uint32_t stuck_holder;
	static uint64_t stuck_number;
	struct timespec nap = {0, 20000};
	int saved_errno = errno;
	int64_t deadline;
	uint32_t now_holder;
	bool got = false;

	for (int i = 0; i < 200 && !got; i++) {
		pause_cpu();
		got = try_lock(h, me);
	}
	for (int i = 0; i < 20 && !got; i++) {
		sched_yield();
		got = try_lock(h, me);
	}
	deadline = got ? 0 : monotonic_ns() + 1000000000;
	while (!got) {
		now_holder = LOAD(h->lock);
		if (now_holder != 0 && now_holder == LOAD(stuck_holder) && LOAD(h->number) == LOAD(stuck_number))
			break;
		if (monotonic_ns() >= deadline) {
			STORE(stuck_number, LOAD(h->number));
			STORE(stuck_holder, now_holder);
			break;
		}
		nanosleep(&nap, NULL);
		if (nap.tv_nsec < 1000000)
			nap.tv_nsec *= 2;
		got = try_lock(h, me);
	}
	errno = saved_errno;
	return got;
}

static inline bool
lock(weir_header *h)
{
	uint32_t me = holder();

	return try_lock(h, me) || lock_contended(h, me);
}

static inline void
unlock(weir_header *h)
{
	STORE_RELEASE(h->lock, 0);
}

/* ------------------------------------------------------------------------
 * The gap: numbers given to events that found no room. Only the lock's holder
 * changes it; the reader looks at it without the lock, by the sequence.
 */

typedef struct gap {
	uint64_t first, last, from_us, to_us;
} gap;

static inline void
gap_begin_change(weir_header *h)
{
	STORE(h->gap_sequence, LOAD(h->gap_sequence) | 1);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

static inline void
gap_end_change(weir_header *h)
{
	STORE_RELEASE(h->gap_sequence, (LOAD(h->gap_sequence) | 1) + 1);
}

/*
 * gap_extend adds a number to the gap. `last` is stored after the fields that it
 * makes valid, for a gap whose last is 0 does not exist. Dead before it, the
 * number was never given; dead after it, recover raises the ring's number to it.
 */
static void
gap_extend(weir_header *h, uint64_t number, uint64_t time_us)
{
	gap_begin_change(h);
	if (LOAD(h->gap_last) == 0) {
		STORE_RELEASE(h->gap_first, number);
		STORE_RELEASE(h->gap_from_us, time_us);
	}
	STORE_RELEASE(h->gap_to_us, time_us);
	STORE_RELEASE(h->gap_last, number);
	gap_end_change(h);
}

/* gap_clear is for a gap that has its frame: `last` goes first, for the same reason. */
static void
gap_clear(weir_header *h)
{
	gap_begin_change(h);
	STORE_RELEASE(h->gap_last, 0);
	STORE_RELEASE(h->gap_first, 0);
	STORE_RELEASE(h->gap_from_us, 0);
	STORE_RELEASE(h->gap_to_us, 0);
	gap_end_change(h);
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

/* Two numbers of 11 bytes at most, two times of 18, a cause of 2. */
#define GAP_PAYLOAD_MAX 64

/* gap_encode writes the gap as a weir.activity.v1.Gap. */
static uint32_t
gap_encode(uint8_t *payload, const gap *g)
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
		gap_length = gap_encode(gap_payload, &g);
		gap_at = fit(ring, head, frame_size(gap_length));
		gap_end = gap_at + frame_size(gap_length);
	}
	at = fit(ring, gap_end, frame_size(length));
	end = at + frame_size(length);

	/* Of the conditions all but the last hold unless someone wrote into the header. */
	if (length > weir_ring_largest(ring) || head > INT64_MAX || head % WEIR_RING_FRAME_ALIGN != 0 || tail > head ||
	    end - tail > ring->data_size) {
		gap_extend(h, *number, time_us);
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
		gap_clear(h);
	STORE_RELEASE(h->number, *number);
	return frame;
}

bool
weir_ring_put(weir_ring *ring, const void *payload, uint32_t length, uint64_t time_us, uint64_t *number)
{
	weir_header *h = ring->header;
	weir_frame *frame;

	if (!lock(h)) {
		__atomic_add_fetch(&h->unnumbered, 1, __ATOMIC_RELAXED);
		*number = 0;
		return false;
	}
	frame = reserve(ring, length, time_us, number);
	unlock(h);
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
		gap_clear(h); /* has its frame, or never came to be */
	else if (LOAD(h->gap_sequence) & 1)
		gap_end_change(h);

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
	unlock(h);
}

void
weir_ring_stopping(weir_ring *ring)
{
	STORE_RELEASE(ring->header->state, WEIR_STATE_STOPPED);
}
