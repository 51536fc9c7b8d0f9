/*
 * stress.c: a server with many sessions that somebody keeps killing.
 *
 * `stress FILE SIZE LOG SECONDS SEED` forks 64 writers that put events of random
 * lengths as fast as they can, kills one of them at a random moment, then, as a
 * server does, kills the rest, recovers, and starts again. Every put that came
 * back is written to LOG: its number times two, plus one where the event found
 * room. At the end, all sessions done, it puts events until one is in the ring.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#include "../ring.h"
#include "pattern.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WRITERS 64
#define LOG_ENTRIES (UINT64_C(1) << 22)

typedef struct put_log {
	uint64_t used;
	uint64_t entries[LOG_ENTRIES];
} put_log;

static weir_ring ring;
static put_log *puts_done;

static uint64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static bool
put(uint32_t length)
{
	static uint8_t payload[1 << 13];
	uint64_t time_us = now_us(), number, slot;
	bool in;

	pattern(payload, length, time_us);
	in = weir_ring_put(&ring, payload, length, time_us, &number);
	if (number != 0) {
		slot = __atomic_fetch_add(&puts_done->used, 1, __ATOMIC_RELAXED);
		if (slot < LOG_ENTRIES)
			__atomic_store_n(&puts_done->entries[slot], number * 2 + in, __ATOMIC_RELEASE);
	}
	return in;
}

static void
writer(unsigned seed)
{
	uint32_t largest = weir_ring_largest(&ring);

	for (;;) {
		uint32_t length = (uint32_t)rand_r(&seed) % 600;

		if (rand_r(&seed) % 50 == 0)
			length = (uint32_t)rand_r(&seed) % (largest + 1);
		put(length);
		if (rand_r(&seed) % 8 == 0)
			usleep((useconds_t)(rand_r(&seed) % 2000));
	}
}

int
main(int argc, char **argv)
{
	weir_ring_options options = {.group = -1, .engine = WEIR_ENGINE_POSTGRESQL, .server_version_text = "stress"};
	pid_t sessions[WRITERS];
	unsigned seed;
	uint64_t end, rounds = 0;
	char err[1024];
	int log;

	if (argc != 6)
		return 2;
	options.path = argv[1];
	options.size = strtoull(argv[2], NULL, 10);
	seed = (unsigned)atoi(argv[5]);
	log = open(argv[3], O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (log < 0 || ftruncate(log, sizeof *puts_done) != 0)
		return 1;
	puts_done = mmap(NULL, sizeof *puts_done, PROT_READ | PROT_WRITE, MAP_SHARED, log, 0);
	if (puts_done == MAP_FAILED)
		return 1;
	if (weir_ring_open(&ring, &options, err, sizeof err) != 0) {
		fprintf(stderr, "%s\n", err);
		return 1;
	}
	end = now_us() + (uint64_t)(atof(argv[4]) * 1e6);
	do {
		for (int i = 0; i < WRITERS; i++) {
			sessions[i] = fork();
			if (sessions[i] == 0)
				writer(seed + (unsigned)i);
		}
		usleep(5000 + (useconds_t)(rand_r(&seed) % 100000));
		kill(sessions[rand_r(&seed) % WRITERS], SIGKILL);
		/* Now and then the others go on for a while, perhaps with the lock held by the dead one. */
		usleep((useconds_t)(rand_r(&seed) % 3000));
		for (int i = 0; i < WRITERS; i++)
			kill(sessions[i], SIGKILL);
		for (int i = 0; i < WRITERS; i++)
			waitpid(sessions[i], NULL, 0);
		weir_ring_recover(&ring);
		seed += WRITERS;
		rounds++;
	} while (now_us() < end);
	while (!put(10))
		usleep(1000);
	weir_ring_stopping(&ring);
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", rounds, ring.header->number, ring.header->lost, ring.header->unnumbered);
	return 0;
}
