/*
 * ring_layout.c: the table in ring.h, held against what the compiler made of it.
 * It is no code.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#include "ring.h"

#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field " has moved")

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the ring is little-endian");
_Static_assert(sizeof(weir_header) == WEIR_RING_HEADER_SIZE, "the header's size is part of the layout");
_Static_assert(sizeof(weir_frame) == WEIR_RING_FRAME_HEADER_SIZE, "the frame header's size is part of the layout");
_Static_assert(sizeof(weir_checkpoint) == 128, "a checkpoint's size is part of the layout");
AT(weir_header, magic, 0);
AT(weir_header, layout, 8);
AT(weir_header, header_size, 12);
AT(weir_header, data_size, 16);
AT(weir_header, epoch, 24);
AT(weir_header, engine, 32);
AT(weir_header, server_version, 36);
AT(weir_header, state, 40);
AT(weir_header, server_pid, 44);
AT(weir_header, started_us, 48);
AT(weir_header, starts, 56);
AT(weir_header, server_version_text, 64);
AT(weir_header, lock, 128);
AT(weir_header, head, 136);
AT(weir_header, number, 144);
AT(weir_header, lost, 152);
AT(weir_header, unnumbered, 160);
AT(weir_header, released, 168);
AT(weir_header, released_through, 176);
AT(weir_header, released_at_us, 184);
AT(weir_header, gap_sequence, 192);
AT(weir_header, gap_first, 200);
AT(weir_header, gap_last, 208);
AT(weir_header, gap_from_us, 216);
AT(weir_header, gap_to_us, 224);
AT(weir_header, tail, 256);
AT(weir_header, stored, 264);
AT(weir_header, durable, 272);
AT(weir_header, capture_pid, 280);
AT(weir_header, capture_seen_us, 288);
AT(weir_header, path, 296);
AT(weir_header, refused, 304);
AT(weir_header, mode, 320);
AT(weir_header, sync_level, 324);
AT(weir_header, on_failure, 328);
AT(weir_header, sync_timeout_ms, 332);
AT(weir_header, policy_generation, 336);
AT(weir_header, bell, 384);
AT(weir_header, capture_sleeps, 388);
AT(weir_header, active_checkpoint, 448);
AT(weir_header, cut_sequence, 456);
AT(weir_header, cut_first, 464);
AT(weir_header, cut_last, 472);
AT(weir_header, cut_from_us, 480);
AT(weir_header, cut_to_us, 488);
AT(weir_header, checkpoints, 512);
AT(weir_header, wait_groups, 1024);
AT(weir_header, source, 1536);
AT(weir_header, settings_length, 4096);
AT(weir_header, settings_crc, 4100);
AT(weir_header, settings, 4104);
AT(weir_checkpoint, tail, 0);
AT(weir_checkpoint, number, 8);
AT(weir_checkpoint, hash, 16);
AT(weir_checkpoint, lost, 48);
AT(weir_checkpoint, at_us, 56);
AT(weir_checkpoint, spooled, 64);
AT(weir_checkpoint, durable_hash, 72);
AT(weir_frame, commit, 0);
AT(weir_frame, length, 4);
AT(weir_frame, number, 8);
AT(weir_frame, kind, 16);
AT(weir_frame, time_us, 24);
