/*
 * encode.h: protobuf by hand, into a buffer that never throws.
 *
 * An event is built in the session that pays for it, so there is no library
 * and no palloc here. A buffer that cannot grow says so in `short_of_memory`
 * and takes nothing more; what is in it up to then are whole fields.
 *
 * Before: event.c, params.c, session.c, which know what a field means.
 * Next: ../ring, which takes the bytes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_ENCODE_H
#define WEIR_ENCODE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "redact.h"

/*
 * fixed is where the bytes live while they fit, and where they return to: a
 * session that once sent a large statement does not keep its size.
 */
typedef struct weir_buffer {
	uint8 *data;
	size_t length;
	size_t capacity;
	uint8 *fixed;
	size_t fixed_capacity;
	bool short_of_memory;
} weir_buffer;

#define WEIR_BUFFER_INIT(array) {(array), 0, sizeof(array), (array), sizeof(array), false}

extern void weir_buffer_init(weir_buffer *b, uint8 *fixed, size_t capacity);

/* weir_buffer_reset empties the buffer and gives back what it had to grow by. */
extern void weir_buffer_reset(weir_buffer *b);

extern bool weir_buffer_grow(weir_buffer *b, size_t n);

/* weir_buffer_reserve makes room for n more bytes, or returns false. */
static inline bool
weir_buffer_reserve(weir_buffer *b, size_t n)
{
	if (likely(b->length + n <= b->capacity && !b->short_of_memory))
		return true;
	return weir_buffer_grow(b, n);
}

extern void weir_put_raw(weir_buffer *b, const void *bytes, size_t n);

/* Fields. A zero or empty value is left out, as proto3 leaves it out. */
extern void weir_put_uint(weir_buffer *b, int field, uint64 value);
extern void weir_put_bytes(weir_buffer *b, int field, const void *bytes, size_t n);
extern void weir_put_string(weir_buffer *b, int field, const char *string);
extern void weir_put_time(weir_buffer *b, int field, TimestampTz time);

/* weir_put_present_uint writes a field with presence, zero included. */
extern void weir_put_present_uint(weir_buffer *b, int field, uint64 value);

/*
 * weir_put_text writes a weir.activity.v1.Text without its secrets (NULL: it has
 * none), of which at most limit bytes are kept: whole characters of the server
 * encoding, and then the true length and hash beside them.
 */
extern void weir_put_text(weir_buffer *b, int field, weir_slice text, const weir_secrets *hidden, size_t limit);

/* weir_put_cut_text writes a Text whose length and hash are known already; 0 and NULL where it is whole, or there is no hash. */
extern void weir_put_cut_text(weir_buffer *b, int field, weir_slice kept, uint64 length, const uint8 *sha256);

/* weir_text_size bounds what a Text of so many kept bytes takes with its tags. */
#define WEIR_TEXT_SIZE(kept) ((kept) + 64)

/* weir_unix_us is a server timestamp as the ring counts: microseconds since 1970. */
extern uint64 weir_unix_us(TimestampTz time);

#endif
