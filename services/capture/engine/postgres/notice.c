/*
 * notice.c: what the module notices about its own audit; see notice.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "event.h"
#include "notice.h"

#define FIELD_NOTICE 18

void
weir_put_notice(weir_buffer *b, enum weir_notice_kind kind, const char *subject)
{
	uint8 space[MAXPGPATH + 32];
	weir_buffer notice;

	weir_buffer_init(&notice, space, sizeof space);
	weir_put_uint(&notice, 1, kind);
	weir_put_bytes(&notice, 2, subject, strnlen(subject, MAXPGPATH));
	weir_put_bytes(b, FIELD_NOTICE, notice.data, notice.length);
	weir_buffer_reset(&notice);
}

void
weir_notice(enum weir_notice_kind kind, const char *subject)
{
	weir_event event = {.kind = WEIR_KIND_NOTICE, .class = WEIR_CLASS_MISC};
	uint8 space[MAXPGPATH + 64];
	weir_buffer details;

	weir_buffer_init(&details, space, sizeof space);
	weir_put_notice(&details, kind, subject);
	event.started = GetCurrentTimestamp();
	event.details = &details;
	weir_event_put(&event, event.started, NULL);
	weir_buffer_reset(&details);
}
