/*
 * names.h: names of relations and functions, remembered per session.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_NAMES_H
#define WEIR_NAMES_H

#include "postgres.h"

/* Two identifiers, each quoted at worst, a dot and the end. */
#define WEIR_NAME_MAX (2 * (2 * NAMEDATALEN + 2) + 2)

enum weir_name_of { WEIR_NAME_OF_RELATION = 1, WEIR_NAME_OF_FUNCTION = 2 };

/* weir_names_init registers the callbacks that drop names; once per server. */
extern void weir_names_init(void);

/*
 * weir_name writes "schema.name", quoted where SQL needs it, and returns its
 * length; 0 if the object is gone. It reads the catalogs where the name is not
 * known yet, so it needs a live transaction.
 */
extern size_t weir_name(enum weir_name_of what, Oid oid, char name[WEIR_NAME_MAX]);

/* weir_known_name is weir_name without the catalogs: 0 if it is not known. */
extern size_t weir_known_name(enum weir_name_of what, Oid oid, char name[WEIR_NAME_MAX]);

#endif
