/*
 * notice.h: what the module notices about its own audit: attempts to get round
 * it, changes of what it rests on.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_NOTICE_H
#define WEIR_NOTICE_H

#include "postgres.h"

#include "encode.h"
#include "weir.h"

/* weir_put_notice writes field 18 of an Activity. The subject is a name, never a statement's text. */
extern void weir_put_notice(weir_buffer *b, enum weir_notice_kind kind, const char *subject);

/* weir_notice writes a notice of this process as an event. */
extern void weir_notice(enum weir_notice_kind kind, const char *subject);

#endif
