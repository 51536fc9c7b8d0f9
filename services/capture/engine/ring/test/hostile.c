/*
 * hostile.c: puts and recoveries on a ring whose header says anything.
 * `hostile ROUNDS SEED` lays a ring between two pages that nobody may touch, so
 * that an access out of bounds ends the program. The values are those that hurt:
 * edges of the ring, of alignment and of arithmetic, as well as noise.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#include "../ring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096

static uint64_t state;

static uint64_t
noise(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint64_t
nasty(void)
{
	static const uint64_t edges[] = {0,          1,         31,        32,         33,
					 65504,      65535,     65536,     65568,      UINT32_MAX,
					 INT64_MAX,  UINT64_MAX, UINT64_MAX - 31, UINT64_C(1) << 63, (UINT64_C(1) << 63) - 32};

	switch (noise() % 4) {
	case 0:
		return noise();
	case 1:
		return noise() % (4 * WEIR_RING_MIN_SIZE);
	case 2:
		return noise() % (4 * WEIR_RING_MIN_SIZE) & ~UINT64_C(31);
	default:
		return edges[noise() % (sizeof edges / sizeof *edges)];
	}
}

int
main(int argc, char **argv)
{
	static uint8_t payload[WEIR_RING_MIN_SIZE];
	const size_t size = WEIR_RING_HEADER_SIZE + WEIR_RING_MIN_SIZE;
	weir_ring ring = {.data_size = WEIR_RING_MIN_SIZE, .fd = -1};
	uint64_t number, in = 0;
	uint64_t *words;
	uint8_t *base;

	if (argc != 3)
		return 2;
	state = strtoull(argv[2], NULL, 10) * 2 + 1;
	base = mmap(NULL, size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED || mprotect(base + PAGE, size, PROT_READ | PROT_WRITE) != 0)
		return 1;
	ring.header = (weir_header *)(void *)(base + PAGE);
	ring.data = base + PAGE + WEIR_RING_HEADER_SIZE;
	words = (uint64_t *)(void *)ring.header;
	for (long rounds = atol(argv[1]); rounds > 0; rounds--) {
		/* Any field, but for the lock: waiting for it is another test. */
		for (uint64_t spoiled = noise() % 4; spoiled > 0; spoiled--)
			words[noise() % 64] = nasty();
		words[offsetof(weir_header, head) / 8 + noise() % 2] = nasty();
		if (noise() % 2 == 0) { /* a tail that the head can have */
			ring.header->head &= ~UINT64_C(31);
			ring.header->tail = ring.header->head - noise() % (WEIR_RING_MIN_SIZE + 64);
		}
		for (int i = 0; i < 16; i++)
			memcpy(ring.data + noise() % (WEIR_RING_MIN_SIZE - 8), &(uint64_t){nasty()}, 8);
		for (int i = 0; i < 4; i++) {
			ring.header->lock = 0;
			in += weir_ring_put(&ring, payload, (uint32_t)(noise() % 2 ? noise() % 9000 : nasty()), nasty(), &number);
		}
		weir_ring_recover(&ring);
	}
	printf("%llu\n", (unsigned long long)in);
	return 0;
}
