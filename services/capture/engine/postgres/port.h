/*
 * port.h: the server's connection structure, without the headers of the
 * libraries behind it.
 *
 * libpq-be.h wants the development files of GSSAPI and OpenSSL where the server
 * was built with them. Only fields before theirs are read here, and their
 * places do not depend on either, so the module builds without both.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_PORT_H
#define WEIR_PORT_H

#include "postgres.h"

#undef ENABLE_GSS
#undef ENABLE_SSPI
#undef USE_OPENSSL
#undef USE_SSL

#include "libpq/libpq-be.h"
#include "libpq/libpq.h"

#endif
