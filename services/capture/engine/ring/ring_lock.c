/*
 * ring_lock.c: the lock: the holder's pid, so that a look at the file says who hangs.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "ring_private.h"

#include <errno.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

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

bool
weir_ring_lock(weir_header *h)
{
	uint32_t me = holder();

	return try_lock(h, me) || lock_contended(h, me);
}
