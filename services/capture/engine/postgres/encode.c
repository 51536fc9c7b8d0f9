/*
 * encode.c: protobuf by hand; see encode.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "encode.h"

#include "sha256.h"
#include "text.h"

#define WIRE_VARINT 0
#define WIRE_LENGTH 2

/* The longest varint, and so the longest tag, in bytes. */
#define VARINT_MAX 10

void
weir_buffer_init(weir_buffer *b, uint8 *fixed, size_t capacity)
{
	b->data = b->fixed = fixed;
	b->capacity = b->fixed_capacity = capacity;
	b->length = 0;
	b->short_of_memory = false;
}

void
weir_buffer_reset(weir_buffer *b)
{
	if (b->data != b->fixed) {
		free(b->data);
		b->data = b->fixed;
		b->capacity = b->fixed_capacity;
	}
	b->length = 0;
	b->short_of_memory = false;
}

bool
weir_buffer_grow(weir_buffer *b, size_t n)
{
	size_t capacity;
	uint8 *grown;

	if (b->short_of_memory)
		return false;
	capacity = Max(b->capacity * 2, b->length + n);
	/* malloc, not palloc: running out of memory is not the statement's error. */
	if (b->data == b->fixed) {
		grown = malloc(capacity);
		if (grown)
			memcpy(grown, b->data, b->length);
	} else
		grown = realloc(b->data, capacity);
	if (!grown) {
		b->short_of_memory = true;
		return false;
	}
	b->data = grown;
	b->capacity = capacity;
	return true;
}

void
weir_put_raw(weir_buffer *b, const void *bytes, size_t n)
{
	if (!weir_buffer_reserve(b, n))
		return;
	memcpy(b->data + b->length, bytes, n);
	b->length += n;
}

static inline uint8 *
put_varint(uint8 *p, uint64 v)
{
	while (v >= 0x80) {
		*p++ = (uint8) v | 0x80;
		v >>= 7;
	}
	*p++ = (uint8) v;
	return p;
}

static inline uint8 *
put_tag(uint8 *p, int field, int wire)
{
	return put_varint(p, ((uint64) field << 3) | wire);
}

void
weir_put_present_uint(weir_buffer *b, int field, uint64 value)
{
	uint8 *p;

	if (!weir_buffer_reserve(b, 2 * VARINT_MAX))
		return;
	p = put_tag(b->data + b->length, field, WIRE_VARINT);
	p = put_varint(p, value);
	b->length = p - b->data;
}

void
weir_put_uint(weir_buffer *b, int field, uint64 value)
{
	if (value != 0)
		weir_put_present_uint(b, field, value);
}

/* put_length_prefixed writes a field's tag and length; n bytes must follow. */
static bool
put_length_prefixed(weir_buffer *b, int field, size_t n)
{
	uint8 *p;

	if (!weir_buffer_reserve(b, 2 * VARINT_MAX + n))
		return false;
	p = put_tag(b->data + b->length, field, WIRE_LENGTH);
	p = put_varint(p, n);
	b->length = p - b->data;
	return true;
}

void
weir_put_bytes(weir_buffer *b, int field, const void *bytes, size_t n)
{
	if (n == 0 || !put_length_prefixed(b, field, n))
		return;
	memcpy(b->data + b->length, bytes, n);
	b->length += n;
}

void
weir_put_string(weir_buffer *b, int field, const char *string)
{
	if (string)
		weir_put_bytes(b, field, string, strlen(string));
}

uint64
weir_unix_us(TimestampTz time)
{
	const int64 epochs_apart = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	return (uint64) (time + epochs_apart);
}

void
weir_put_time(weir_buffer *b, int field, TimestampTz time)
{
	uint64 us = weir_unix_us(time);
	uint8 message[4 * VARINT_MAX];
	uint8 *p = message;

	p = put_tag(p, 1, WIRE_VARINT);
	p = put_varint(p, us / USECS_PER_SEC);
	p = put_tag(p, 2, WIRE_VARINT);
	p = put_varint(p, us % USECS_PER_SEC * 1000);
	weir_put_bytes(b, field, message, p - message);
}

static size_t
varint_size(uint64 v)
{
	uint8 scratch[VARINT_MAX];

	return put_varint(scratch, v) - scratch;
}

/* put_text_of writes a Text of which kept bytes are shown. */
static void
put_text_of(weir_buffer *b, int field, weir_slice text, const weir_secrets *hidden, size_t kept, uint64 length,
			const uint8 *sha256)
{
	size_t size = kept ? 1 + varint_size(kept) + kept : 0;
	uint8 *p;

	if (length)
		size += 1 + varint_size(length);
	if (sha256)
		size += 2 + WEIR_SHA256_SIZE;
	/* An empty text is present all the same: a message of length 0. */
	if (!put_length_prefixed(b, field, size))
		return;
	p = b->data + b->length;
	if (kept) {
		p = put_tag(p, 1, WIRE_LENGTH);
		p = put_varint(p, kept);
		p += weir_show((char *) p, kept, text, hidden);
	}
	if (length) {
		p = put_tag(p, 2, WIRE_VARINT);
		p = put_varint(p, length);
	}
	if (sha256) {
		p = put_tag(p, 3, WIRE_LENGTH);
		p = put_varint(p, WEIR_SHA256_SIZE);
		memcpy(p, sha256, WEIR_SHA256_SIZE);
		p += WEIR_SHA256_SIZE;
	}
	b->length = p - b->data;
}

void
weir_put_text(weir_buffer *b, int field, weir_slice text, const weir_secrets *hidden, size_t limit)
{
	size_t length = hidden ? weir_shown_length(text, hidden) : text.length;
	uint8 digest[WEIR_SHA256_SIZE];

	if (length <= limit) {
		put_text_of(b, field, text, hidden, length, 0, NULL);
		return;
	}
	weir_shown_hash(text, hidden, digest);
	put_text_of(b, field, text, hidden, weir_show(NULL, limit, text, hidden), length, digest);
}

void
weir_put_cut_text(weir_buffer *b, int field, weir_slice kept, uint64 length, const uint8 *sha256)
{
	put_text_of(b, field, kept, NULL, kept.length, length, sha256);
}
