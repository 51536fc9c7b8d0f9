/*
 * params.h: bind values as text.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_PARAMS_H
#define WEIR_PARAMS_H

#include "postgres.h"

#include "nodes/params.h"

#include "encode.h"

/*
 * weir_put_params writes the values of a parameter list as fields 11 and 17 of
 * an Activity, in at most limit bytes; further values are counted. Lists that a
 * language computes on demand (the variables of PL/pgSQL) are not bind values
 * and give none. Needs a live transaction.
 *
 * No function a user could have written is called: a value whose type's output
 * is not the server's own shows as <type name>. What the statement's text says
 * is a secret shows as such, and so does what a value says of itself.
 */
extern void weir_put_params(weir_buffer *b, ParamListInfo params, weir_slice text, weir_secrecy secrecy, size_t limit);

#endif
