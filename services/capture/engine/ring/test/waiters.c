/*
 * waiters.c: sessions that each write an event and wait until it is durable,
 * over and over. `waiters FILE SESSIONS ROUNDS SEED` opens the ring, waits for a
 * line on standard input (capture is ready), and forks the sessions. Of every
 * eighth event the session says that it was released.
 *
 * A sleep is not cut into slices here: a wake-up that is lost shows as a sleep
 * of a minute that nobody ended.
 *
 * It prints "WAITED SLEPT TIMEOUTS LEFT RELEASED THROUGH": the waits, those
 * that had to sleep, the sleeps that nobody ended, the waiters still counted in the end, the releases
 * and the highest number among them.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#include "../ring.h"
#include "pattern.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLICE_MS 60000

typedef struct totals {
	uint64_t waited, slept, timeouts, released, through;
} totals;

static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static int
session(weir_ring *ring, totals *all, int rounds, uint64_t random)
{
	uint8_t payload[256];
	uint64_t number, through;
	enum weir_waited waited;

	for (int i = 0; i < rounds; i++) {
		uint64_t time_us = UINT64_C(1700000000000000) + next_random(&random) % 1000000;
		uint32_t length = (uint32_t)(next_random(&random) % sizeof payload);
		weir_wait wait;

		pattern(payload, length, time_us);
		if (!weir_ring_put(ring, payload, length, time_us, &number)) {
			fprintf(stderr, "no room\n");
			return 1;
		}
		wait = weir_wait_begin(number);
		wait.slice_ms = SLICE_MS;
		if (!weir_ring_durable(ring, number))
			__atomic_add_fetch(&all->slept, 1, __ATOMIC_SEQ_CST);
		do
			waited = weir_ring_wait(ring, &wait);
		while (waited == WEIR_WAIT_AGAIN);
		if (waited != WEIR_WAIT_DURABLE || !weir_ring_durable(ring, number)) {
			fprintf(stderr, "the wait for %" PRIu64 " ended with %d\n", number, (int)waited);
			return 1;
		}
		__atomic_add_fetch(&all->waited, 1, __ATOMIC_SEQ_CST);
		__atomic_add_fetch(&all->timeouts, wait.timeouts, __ATOMIC_SEQ_CST);
		if (number % 8 != 0)
			continue;
		weir_ring_released(ring, number, time_us);
		__atomic_add_fetch(&all->released, 1, __ATOMIC_SEQ_CST);
		through = __atomic_load_n(&all->through, __ATOMIC_SEQ_CST);
		while (through < number &&
		       !__atomic_compare_exchange_n(&all->through, &through, number, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			;
	}
	return 0;
}

int
main(int argc, char **argv)
{
	weir_ring_options options = {.engine = WEIR_ENGINE_POSTGRESQL, .server_version = 150020, .server_version_text = "15.20",
				     .size = UINT64_C(4) << 20, .group = -1};
	char err[1024], line[16];
	uint64_t left = 0;
	int sessions, rounds, status, failed = 0;
	totals *all;
	weir_ring ring;

	if (argc != 5)
		return 2;
	options.path = argv[1];
	sessions = atoi(argv[2]);
	rounds = atoi(argv[3]);
	if (weir_ring_open(&ring, &options, err, sizeof err) != 0) {
		fprintf(stderr, "%s\n", err);
		return 1;
	}
	all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (all == MAP_FAILED)
		return 1;
	puts("open");
	fflush(stdout);
	if (fgets(line, sizeof line, stdin) == NULL)
		return 1;
	for (int i = 0; i < sessions; i++)
		if (fork() == 0)
			_exit(session(&ring, all, rounds, strtoull(argv[4], NULL, 10) * 7919 + (uint64_t)i + 1));
	while (wait(&status) > 0)
		failed |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
	for (int i = 0; i < WEIR_RING_WAIT_GROUPS; i++)
		left += ring.header->wait_groups[i].waiters;
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", all->waited, all->slept, all->timeouts, left,
	       all->released, all->through);
	return failed;
}
