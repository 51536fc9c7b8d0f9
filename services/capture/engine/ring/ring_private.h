/*
 * ring_private.h: what the files of the ring share.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#ifndef WEIR_RING_PRIVATE_H
#define WEIR_RING_PRIVATE_H

#include "ring.h"

#define LOAD(p) __atomic_load_n(&(p), __ATOMIC_RELAXED)
#define LOAD_ACQUIRE(p) __atomic_load_n(&(p), __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n(&(p), (v), __ATOMIC_RELAXED)
#define STORE_RELEASE(p, v) __atomic_store_n(&(p), (v), __ATOMIC_RELEASE)

/* weir_ring_lock takes the lock; false where it could not be had for a second. */
bool weir_ring_lock(weir_header *h);

static inline void
weir_ring_unlock(weir_header *h)
{
	STORE_RELEASE(h->lock, 0);
}

/* weir_ring_forget_pid is for the child of a fork: it is not its parent. */
void weir_ring_forget_pid(void);

/* A gap, as a frame tells it. */
typedef struct gap {
	uint64_t first, last, from_us, to_us;
} gap;

/* Two numbers of 11 bytes at most, two times of 18, a cause of 2. */
#define GAP_PAYLOAD_MAX 64

/* weir_ring_gap_encode writes the gap as a weir.activity.v1.Gap. */
uint32_t weir_ring_gap_encode(uint8_t *payload, const gap *g);

/* weir_ring_gap_extend adds a number to the gap. The caller holds the lock here and below. */
void weir_ring_gap_extend(weir_header *h, uint64_t number, uint64_t time_us);

/* weir_ring_gap_clear is for a gap that has its frame. */
void weir_ring_gap_clear(weir_header *h);

/* weir_ring_gap_end_change makes the sequence even where somebody died while it was odd. */
void weir_ring_gap_end_change(weir_header *h);

#endif
