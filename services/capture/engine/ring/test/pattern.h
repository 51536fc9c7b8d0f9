/*
 * pattern.h: the bytes of a test's event, which follow from its time and its
 * length. A reader knows from the frame alone whether the payload is whole.
 * The same is in internal/ring's tests.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#ifndef WEIR_RING_TEST_PATTERN_H
#define WEIR_RING_TEST_PATTERN_H

#include <stdint.h>

static inline uint8_t
pattern_byte(uint64_t time_us, uint32_t i)
{
	return (uint8_t)((time_us * UINT64_C(0x9e3779b97f4a7c15) >> (8 * (i % 8))) + i / 8);
}

static inline void
pattern(uint8_t *payload, uint32_t length, uint64_t time_us)
{
	for (uint32_t i = 0; i < length; i++)
		payload[i] = pattern_byte(time_us, i);
}

#endif
