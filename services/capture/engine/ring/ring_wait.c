/*
 * ring_wait.c: a session waits until its number is durable.
 *
 * Capture moves `durable`, then looks whether somebody waits. A session says
 * that it waits, then looks at `durable`. Each does its two steps in the one
 * order that all processes see, so one of them sees the other, and no wake-up is
 * lost:
 *
 *   session: waiters + 1; value = futex; durable < number? → sleep while futex == value
 *   capture: durable = n; waiters > 0? → futex + 1; wake
 *
 * The bell works the same way round: the session's frame is committed and the
 * session counted among those that wait, then it looks whether capture sleeps;
 * capture says that it sleeps, then looks for a frame, and for somebody who waits
 * for one that it has read and not sent.
 *
 * A sleep is short all the same. Nobody is woken when the path degrades at the
 * hand of another session, and a signal that arrives just before the sleep does
 * not end it.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "ring_private.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLICE_MS 100
#define DEFAULT_TIMEOUT_MS 5000

static int64_t
monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The futexes are shared by processes, so they are none of the private kind. */
static long
futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

weir_wait
weir_wait_begin(uint64_t number)
{
	return (weir_wait){.number = number, .begun_ms = monotonic_ms(), .slice_ms = SLICE_MS};
}

uint32_t
weir_ring_sync_timeout_ms(const weir_ring *ring)
{
	uint32_t told = LOAD(ring->header->sync_timeout_ms);

	return told != 0 ? told : DEFAULT_TIMEOUT_MS;
}

/* ring_bell wakes capture, which may sleep for some milliseconds more. */
static void
ring_bell(weir_header *h)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (LOAD(h->capture_sleeps) == 0)
		return;
	__atomic_add_fetch(&h->bell, 1, __ATOMIC_SEQ_CST);
	(void)futex(&h->bell, FUTEX_WAKE, INT_MAX, NULL);
}

/* patience says whether to wait on; AGAIN where there is nothing for it but to sleep, at most for *left_ms. */
static enum weir_waited
patience(weir_ring *ring, const weir_wait *wait, int64_t *left_ms)
{
	weir_header *h = ring->header;
	uint32_t path;

	if (weir_ring_mode(ring) != WEIR_MODE_SYNC)
		return WEIR_WAIT_UNSYNCED;
	path = weir_ring_path(ring);
	/* Where no capture has spoken yet, sessions wait for it, once. */
	if (path != WEIR_PATH_HEALTHY && path != WEIR_PATH_UNKNOWN)
		return WEIR_WAIT_DEGRADED;
	*left_ms = wait->begun_ms + weir_ring_sync_timeout_ms(ring) - monotonic_ms();
	if (*left_ms > 0)
		return WEIR_WAIT_AGAIN;
	/* Of all whose time is over one turns the path, and may say so. */
	if (!__atomic_compare_exchange_n(&h->path, &path, WEIR_PATH_DEGRADED, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return WEIR_WAIT_DEGRADED;
	return WEIR_WAIT_TIMEOUT;
}

static enum weir_waited
look(weir_ring *ring, const weir_wait *wait, int64_t *left_ms)
{
	if (__atomic_load_n(&ring->header->durable, __ATOMIC_SEQ_CST) >= wait->number)
		return WEIR_WAIT_DURABLE;
	return patience(ring, wait, left_ms);
}

enum weir_waited
weir_ring_wait(weir_ring *ring, weir_wait *wait)
{
	weir_header *h = ring->header;
	weir_wait_group *group = &h->wait_groups[wait->number % WEIR_RING_WAIT_GROUPS];
	int saved_errno = errno;
	enum weir_waited waited;
	struct timespec slice;
	int64_t left_ms;
	uint32_t value;

	waited = look(ring, wait, &left_ms);
	if (waited != WEIR_WAIT_AGAIN)
		return waited;
	__atomic_add_fetch(&group->waiters, 1, __ATOMIC_SEQ_CST);
	ring_bell(h);
	value = __atomic_load_n(&group->futex, __ATOMIC_SEQ_CST);
	waited = look(ring, wait, &left_ms);
	if (waited == WEIR_WAIT_AGAIN) {
		if (left_ms > wait->slice_ms)
			left_ms = wait->slice_ms;
		slice.tv_sec = left_ms / 1000;
		slice.tv_nsec = left_ms % 1000 * 1000000;
		if (futex(&group->futex, FUTEX_WAIT, value, &slice) != 0 && errno == ETIMEDOUT)
			wait->timeouts++;
		waited = look(ring, wait, &left_ms);
	}
	__atomic_sub_fetch(&group->waiters, 1, __ATOMIC_SEQ_CST);
	errno = saved_errno;
	return waited;
}

enum weir_waited
weir_ring_wait_room(weir_ring *ring, const weir_wait *wait, uint32_t length)
{
	const struct timespec nap = {0, 1000000};
	int saved_errno = errno;
	enum weir_waited waited;
	int64_t left_ms;

	if (weir_ring_has_room(ring, length))
		return WEIR_WAIT_DURABLE;
	/* A ring that fills up while nobody reads it is what continue keeps from stopping the server. */
	if (weir_ring_path(ring) != WEIR_PATH_HEALTHY)
		return WEIR_WAIT_DEGRADED;
	waited = patience(ring, wait, &left_ms);
	if (waited == WEIR_WAIT_AGAIN) {
		ring_bell(ring->header);
		nanosleep(&nap, NULL);
		errno = saved_errno;
	}
	return waited;
}

void
weir_ring_released(weir_ring *ring, uint64_t number, uint64_t time_us)
{
	weir_header *h = ring->header;
	uint64_t through = LOAD(h->released_through);

	/* The count last: who sees it move sees a number and a time that belong to it, or to a later one. */
	while (through < number &&
	       !__atomic_compare_exchange_n(&h->released_through, &through, number, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		;
	STORE_RELEASE(h->released_at_us, time_us);
	__atomic_add_fetch(&h->released, 1, __ATOMIC_ACQ_REL);
}

void
weir_ring_refused(weir_ring *ring)
{
	__atomic_add_fetch(&ring->header->refused, 1, __ATOMIC_ACQ_REL);
}
