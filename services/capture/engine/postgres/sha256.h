/*
 * sha256.h: SHA-256 (FIPS 180-4) for texts that are cut.
 *
 * The server has one, but it allocates, may throw, and needs a resource owner,
 * which there is none of after an error.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_SHA256_H
#define WEIR_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define WEIR_SHA256_SIZE 32

typedef struct weir_sha256 {
	uint32_t state[8];
	uint64_t length; /* bytes so far */
	uint8_t block[64];
} weir_sha256;

extern void weir_sha256_init(weir_sha256 *h);
extern void weir_sha256_update(weir_sha256 *h, const void *bytes, size_t n);
extern void weir_sha256_final(weir_sha256 *h, uint8_t digest[WEIR_SHA256_SIZE]);

#endif
