/*
 * ring_private.h: what ring.c and ring_open.c share.
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

/* weir_ring_forget_pid is for the child of a fork: it is not its parent. */
void weir_ring_forget_pid(void);

#endif
