/*
 * crash.c: a session that dies after every instruction.
 *
 * `crash FILE` makes a ring. For a line "SCENARIO" on standard input it brings
 * the ring into that scenario's state and lets a child do weir_ring_put, an
 * instruction at a time. What a death leaves is what lies in the ring then; so
 * after each instruction that changed the ring, that state is put into FILE,
 * recovered as a server does, and given one event more. The test reads FILE and
 * answers with a line before the next one comes.
 *
 * The recovery can be killed, too: from every such state it is run an
 * instruction at a time in the same way, and what it leaves is recovered anew.
 *
 * Each state is a line "PUT_STEP RECOVER_STEP LAST", the step being the count of
 * instructions, and LAST the number of the event that was put in the end. The
 * scenario ends with a line "end BEFORE", the number given last before it began.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#include "../ring.h"
#include "pattern.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EMPTY, PAD, FULL, FULLER, GAP, GAP_PAD, PAD_GAP, SCENARIOS };

#define RING_BYTES (WEIR_RING_HEADER_SIZE + WEIR_RING_MIN_SIZE)
#define LENGTH 100 /* of the event whose session dies: a frame of 160 bytes */

static uint64_t clock_us = UINT64_C(1700000000000000);
static uint8_t bytes[8192];
static weir_ring left;    /* the file: what the test reads */
static uint8_t *template; /* an empty ring */

static uint64_t
put(weir_ring *ring, uint32_t length)
{
	uint64_t number;

	clock_us++;
	pattern(bytes, length, clock_us);
	weir_ring_put(ring, bytes, length, clock_us, &number);
	return number;
}

/* free_four does what capture does when the first four events are safe elsewhere. */
static void
free_four(weir_ring *ring)
{
	ring->header->checkpoints[0].tail = UINT64_C(4) * 4128;
	ring->header->checkpoints[0].number = 4;
	ring->header->tail = UINT64_C(4) * 4128;
}

/* memory is a ring that children share. */
static weir_ring
memory(void)
{
	weir_ring ring = {.data_size = WEIR_RING_MIN_SIZE, .fd = -1};
	uint8_t *base = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED)
		exit(1);
	ring.header = (weir_header *)(void *)base;
	ring.data = base + WEIR_RING_HEADER_SIZE;
	return ring;
}

/* prepare fills the ring up to some bytes before its end; a gap's frame takes 64. */
static void
prepare(weir_ring *ring, int scenario)
{
	uint32_t remaining = scenario == GAP_PAD ? 96 : scenario == PAD_GAP ? 32 : 64;

	memcpy(ring->header, template, RING_BYTES);
	if (scenario == EMPTY)
		return;
	for (int i = 0; i < 15; i++)
		put(ring, 4096);
	put(ring, WEIR_RING_MIN_SIZE - 15 * 4128 - 32 - remaining);
	if (scenario >= FULLER) {
		put(ring, LENGTH); /* these two are lost */
		put(ring, LENGTH);
	}
	if (scenario == PAD || scenario >= GAP)
		free_four(ring);
}

/* tell recovers a state in FILE, and lets the test look at it. */
static void
tell(const weir_ring *state, long put_step, long recover_step)
{
	char answer[16];

	memcpy(left.header, state->header, RING_BYTES);
	weir_ring_recover(&left);
	if (left.header->tail == 0 && left.header->number >= 16)
		free_four(&left); /* room for one more */
	printf("%ld %ld %" PRIu64 "\n", put_step, recover_step, put(&left, 50));
	if (fgets(answer, sizeof answer, stdin) == NULL)
		exit(1);
}

/*
 * each_change runs f on the ring in a child, an instruction at a time, and calls
 * changed after those that changed the ring.
 */
static void
each_change(weir_ring *ring, void (*f)(weir_ring *), void (*changed)(weir_ring *, long, long), long outer)
{
	uint8_t *before = malloc(RING_BYTES);
	int status;
	pid_t child = fork();

	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		f(ring);
		_exit(0);
	}
	memcpy(before, ring->header, RING_BYTES);
	waitpid(child, &status, 0);
	for (long step = 1; WIFSTOPPED(status); step++) {
		if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0) {
			perror("ptrace");
			exit(1);
		}
		waitpid(child, &status, 0);
		if (memcmp(before, ring->header, RING_BYTES) != 0) {
			memcpy(before, ring->header, RING_BYTES);
			changed(ring, outer, step);
		}
	}
	free(before);
}

static void
put_prepared(weir_ring *ring)
{
	uint64_t number;

	weir_ring_put(ring, bytes, LENGTH, clock_us, &number);
}

static void
recover_died(weir_ring *ring, long put_step, long recover_step)
{
	tell(ring, put_step, recover_step);
}

static void
put_died(weir_ring *ring, long none, long put_step)
{
	static weir_ring work;

	(void)none;
	tell(ring, put_step, 0);
	if (work.header == NULL)
		work = memory();
	memcpy(work.header, ring->header, RING_BYTES);
	each_change(&work, weir_ring_recover, recover_died, put_step);
}

int
main(int argc, char **argv)
{
	weir_ring_options options = {.size = WEIR_RING_MIN_SIZE, .group = -1, .engine = WEIR_ENGINE_POSTGRESQL};
	weir_ring ring = memory();
	char err[1024], line[128];
	int scenario;

	if (argc != 2)
		return 2;
	options.path = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (weir_ring_open(&left, &options, err, sizeof err) != 0) {
		fprintf(stderr, "%s\n", err);
		return 1;
	}
	template = malloc(RING_BYTES);
	memcpy(template, left.header, RING_BYTES);
	while (fgets(line, sizeof line, stdin) != NULL) {
		scenario = atoi(line);
		if (scenario < 0 || scenario >= SCENARIOS)
			return 2;
		prepare(&ring, scenario);
		clock_us++;
		pattern(bytes, LENGTH, clock_us);
		each_change(&ring, put_prepared, put_died, 0);
		printf("end %d\n", scenario == EMPTY ? 0 : scenario >= FULLER ? 18 : 16);
	}
	return 0;
}
