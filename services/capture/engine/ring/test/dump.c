/*
 * dump.c: a reader in C, for rings that the Go half wrote. `dump FILE` prints
 * the header's figures and every frame from the tail on; of a payload, whether
 * it is the pattern's, and of a gap's its bytes.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#include "../ring.h"
#include "pattern.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

int
main(int argc, char **argv)
{
	struct stat st;
	const weir_header *h;
	const weir_frame *frame;
	const uint8_t *data, *bytes;
	int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
	bool whole;

	if (fd < 0 || fstat(fd, &st) != 0)
		return 1;
	h = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (h == MAP_FAILED || h->magic != WEIR_RING_MAGIC || h->layout != WEIR_RING_LAYOUT)
		return 1;
	data = (const uint8_t *)h + WEIR_RING_HEADER_SIZE;
	printf("number %" PRIu64 " lost %" PRIu64 " gap %" PRIu64 "..%" PRIu64 " stored %" PRIu64 " durable %" PRIu64 " mode %" PRIu32
	       " generation %" PRIu64 " settings %" PRIu32 "\n",
	       h->number, h->lost, h->gap_first, h->gap_last, h->stored, h->durable, h->mode, h->policy_generation, h->settings_length);
	for (uint64_t at = h->tail; at < h->head; at += (sizeof *frame + frame->length + 31) / 32 * 32) {
		frame = (const weir_frame *)(const void *)(data + at % h->data_size);
		bytes = (const uint8_t *)(frame + 1);
		switch (frame->kind) {
		case WEIR_FRAME_EVENT:
			whole = true;
			for (uint32_t i = 0; i < frame->length; i++)
				whole = whole && bytes[i] == pattern_byte(frame->time_us, i);
			printf("event %" PRIu64 " %" PRIu32 " %" PRIu64 " %s\n", frame->number, frame->length, frame->time_us,
			       frame->commit == WEIR_TORN ? "torn" : frame->commit == WEIR_RESERVED ? "reserved" : whole ? "whole" : "spoiled");
			break;
		case WEIR_FRAME_GAP:
			printf("gap %" PRIu64 " ", frame->number);
			for (uint32_t i = 0; i < frame->length; i++)
				printf("%02x", bytes[i]);
			printf("\n");
			break;
		case WEIR_FRAME_PAD:
			printf("pad\n");
			break;
		default:
			printf("kind %" PRIu32 "\n", frame->kind);
			return 1;
		}
	}
	return 0;
}
