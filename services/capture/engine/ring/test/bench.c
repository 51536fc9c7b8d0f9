/*
 * bench.c: what a put costs. `bench FILE WRITERS EVENTS LENGTH` has each of
 * WRITERS processes put EVENTS events, and prints nanoseconds per put, as a
 * session feels them: wall time of a writer by its events.
 *
 * The parent frees the ring as capture would. With one writer the writer does it
 * by itself, every 1000 events, so that nothing else runs.
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
#include <time.h>
#include <unistd.h>

static weir_ring ring;

static double
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void
free_all(void)
{
	__atomic_store_n(&ring.header->tail, __atomic_load_n(&ring.header->head, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
}

int
main(int argc, char **argv)
{
	weir_ring_options options = {.size = UINT64_C(64) << 20, .group = -1, .engine = WEIR_ENGINE_POSTGRESQL};
	char err[1024];
	uint8_t payload[4096];
	uint64_t number;
	double *spent;
	double total = 0;
	int writers;
	long events;
	uint32_t length;
	int alive;

	if (argc != 5)
		return 2;
	options.path = argv[1];
	writers = atoi(argv[2]);
	events = atol(argv[3]);
	length = (uint32_t)atoi(argv[4]);
	if (writers < 1 || length > sizeof payload)
		return 2;
	if (weir_ring_open(&ring, &options, err, sizeof err) != 0) {
		fprintf(stderr, "%s\n", err);
		return 1;
	}
	pattern(payload, length, 1);
	spent = mmap(NULL, sizeof *spent * (size_t)writers, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int w = 0; w < writers; w++) {
		if (fork() == 0) {
			double begin;

			/* Once round the ring, so that its pages are mapped. */
			for (uint64_t at = 0; at < ring.data_size; at += 4096)
				__atomic_load_n(&ring.data[at], __ATOMIC_RELAXED);
			begin = now_ns();
			for (long i = 0; i < events; i++) {
				weir_ring_put(&ring, payload, length, 1700000000000000, &number);
				if (writers == 1 && i % 1000 == 999)
					free_all();
			}
			spent[w] = now_ns() - begin;
			_exit(0);
		}
	}
	for (alive = writers; alive > 0;) {
		while (alive > 0 && waitpid(-1, NULL, writers == 1 ? 0 : WNOHANG) > 0)
			alive--;
		if (writers > 1) {
			free_all();
			usleep(200);
		}
	}
	for (int w = 0; w < writers; w++)
		total += spent[w];
	printf("%.1f %" PRIu64 "\n", total / (double)writers / (double)events, ring.header->lost);
	unlink(options.path);
	return 0;
}
