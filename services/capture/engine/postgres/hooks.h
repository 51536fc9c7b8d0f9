/*
 * hooks.h: where the server calls.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_HOOKS_H
#define WEIR_HOOKS_H

/* weir_hooks_init takes the executor's hooks and keeps those that were there. */
extern void weir_hooks_init(void);

/* weir_messages_init interposes on messages to the client. */
extern void weir_messages_init(void);

#endif
