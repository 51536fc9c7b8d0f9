/*
 * hooks.h: where the server calls.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_HOOKS_H
#define WEIR_HOOKS_H

#include "postgres.h"

/* weir_hooks_init takes the executor's hooks and keeps those that were there. */
extern void weir_hooks_init(void);

/* weir_hooks_expect notes the hooks as they are when all libraries of the server are loaded: what they are to be. */
extern void weir_hooks_expect(void);

/* weir_hooks_intact says whether they are, or were told of. */
extern bool weir_hooks_intact(void);

/*
 * weir_hooks_put_back puts back hooks that were emptied. One that leads to
 * another module is left alone, for that module may call ours, and would then
 * call itself. Returns whether there is something new to tell, and says what.
 */
extern bool weir_hooks_put_back(char *subject, size_t size);

/* The same for the server's message functions, which can always be put back. */
extern void weir_messages_expect(void);
extern bool weir_messages_intact(void);
extern bool weir_messages_put_back(char *subject, size_t size);

/* weir_messages_init interposes on messages to the client. */
extern void weir_messages_init(void);

#endif
