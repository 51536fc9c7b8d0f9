/*
 * ring_file.h: what ring_open.c needs of ring_file.c: the file, before it is a ring.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#ifndef WEIR_RING_FILE_H
#define WEIR_RING_FILE_H

#include "ring_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

/* A file that was opened, and what is known of it. */
typedef struct ring_file {
	int fd;
	bool created; /* by us, just now */
	struct stat st;
	weir_header header; /* as it was when we looked; zero where the file was shorter */
} ring_file;

typedef struct failure {
	char *text;
	size_t size;
} failure;

/* fail writes down why, and returns false. */
__attribute__((format(printf, 2, 3))) static inline bool
fail(const failure *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why->text, why->size, format, args);
	va_end(args);
	return false;
}

bool weir_ring_open_file(const char *path, ring_file *file, bool *again, const failure *why);
bool weir_ring_take_server_lock(const char *path, int fd, const failure *why);
bool weir_ring_share(const weir_ring_options *o, int fd, const failure *why);
bool weir_ring_allocate(const char *path, int fd, uint64_t data_size, const failure *why);
bool weir_ring_map(weir_ring *ring, const char *path, int fd, uint64_t data_size, const failure *why);

#endif
