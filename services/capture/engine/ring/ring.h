/*
 * ring.h: the ring, a file in memory that a database server and capture both map.
 *
 * A session of the server builds an event and copies it into the ring; capture
 * reads it there. Neither waits for the other. The mapping belongs to neither
 * process, so it survives a killed session, a killed server and a killed
 * capture: whoever comes back goes on where the numbers stand.
 *
 * Nothing here knows of a database. The Go half is services/capture/internal/ring.
 *
 * Before: engine/postgres, which builds the payload.
 * Next: internal/ring, which reads it.
 *
 * -------------------------------------------------------------------------
 * Layout, version 1. Little-endian; every field is aligned to its own size.
 * A line of 64 bytes has one kind of writer, so that they do not disturb
 * each other. "engine" writes while it starts and nobody else is there;
 * "session" writes under the lock unless said otherwise.
 *
 *  offset  size  field                    written by
 *  ------  ----  -----------------------  -----------------------------------
 *       0     8  magic "WEIRRING"         engine, last of all when it creates
 *       8     4  layout version (1)       engine
 *      12     4  header size (8192)       engine
 *      16     8  data size, bytes         engine; a multiple of 4096
 *      24     8  epoch                    engine; its creation, µs since 1970
 *      32     4  engine                   engine; 1 PostgreSQL 2 MariaDB 3 MySQL
 *      36     4  server version           engine; the engine's own number
 *      40     4  state                    engine; 1 running, 2 stop announced
 *      44     4  server pid               engine
 *      48     8  started at, µs           engine
 *      56     8  starts in this epoch     engine; also counts crash restarts
 *      64    64  server version, text     engine; ends with a zero byte
 *
 *     128     4  lock                     session; 0 free, else the holder's pid
 *     136     8  head, bytes              session; reserved since creation
 *     144     8  number                   session; the last one given
 *     152     8  lost                     session; numbers given without a frame
 *     160     8  unnumbered               session, atomically, without the lock:
 *                                         events that could not get a number,
 *                                         for the lock was not to be had
 *     168     8  released                 session, atomically, without the lock:
 *                                         completions that a client was told of
 *                                         before their number was durable
 *     176     8  released through         session, atomically; the highest of
 *                                         those numbers
 *     184     8  released at, µs          session; when the last one was
 *
 *     192     4  gap sequence             session; odd while the gap changes
 *     200     8  gap: first number        session; the gap that has no frame yet,
 *     208     8  gap: last number         session;   none where last is 0
 *     216     8  gap: from, µs            session
 *     224     8  gap: to, µs              session
 *
 *     256     8  tail, bytes              capture; room before it is free
 *     264     8  stored, number           capture; up to it safe elsewhere
 *     272     8  durable, number          capture; up to it on the journal's disk
 *     280     4  capture pid              capture
 *     288     8  capture seen at, µs      capture; about every second
 *     296     4  path                     capture; 0 not known, 1 healthy, 2 not;
 *                                         a session whose wait timed out makes
 *                                         it 2 too, and only capture makes it 1;
 *                                         an engine that starts and finds no
 *                                         capture makes it 0
 *     304     8  refused                  session, atomically: statements that
 *                                         fail_operation did not let run or commit
 *
 *     320     4  mode                     capture; 0 not told, 1 off, 2 async, 3 sync
 *     324     4  sync level               capture; 1 transaction 2 statement 3 strict
 *     328     4  on failure               capture; 1 continue, 2 fail_operation
 *     332     4  sync timeout, ms         capture
 *     336     8  policy generation        capture; written last
 *
 *     384     4  bell                     session, atomically; a futex
 *     388     4  capture sleeps           capture; 1 while it waits on the bell
 *
 *     448     4  active checkpoint        capture; 0 or 1
 *     456     8  cut sequence             capture; odd while the cut changes
 *     464    32  cut: first, last, from, to   capture; the part of an open gap
 *                                         that it has told already
 *     512   128  checkpoint 0             capture, while it is not the active one
 *     640   128  checkpoint 1             capture, while it is not the active one
 *                  +0 tail  +8 number  +16 hash, 32 bytes  +48 lost  +56 at, µs
 *                  +64 spooled: how many numbers before `number` only the spool has
 *                  +72 hash, 32 bytes, of the last that the journal has
 *
 *    1024   512  64 wait groups           4 bytes futex, 4 bytes waiters each;
 *                                         a number waits in group number % 64
 *
 *    1536   256  source                   a source that is no engine (capture that
 *                                         follows a log): two slots of 128 bytes, the
 *                                         one with the higher sequence counts
 *                  +0 sequence  +8 CRC-32C of all but itself  +12 length  +16 bytes
 *
 *    4096  4096  settings                 capture; what control wants, so that a
 *                  +0 length  +4 CRC-32C  +8 bytes      capture that comes back
 *                                         while control is down goes on
 *    8192     …  data                     frames
 *
 * Everything not named is zero and reserved.
 *
 * A frame begins at a multiple of 32 and never wraps:
 *
 *       0     4  commit                   0 reserved, 1 committed, 2 torn
 *       4     4  payload length
 *       8     8  number                   of a gap frame: the gap's last
 *      16     4  kind                     1 event, 2 gap, 3 padding to the end
 *      24     8  time, µs since 1970      of the event
 *      32     …  payload                  weir.activity.v1.Activity, or Gap
 *
 * The reader stops at the first frame that is not committed.
 *
 * Locks on the file (open file description locks): byte 0 is held by the
 * server for as long as one of its processes lives, byte 1 by the capture.
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#ifndef WEIR_RING_H
#define WEIR_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEIR_RING_MAGIC UINT64_C(0x474e495252494557) /* "WEIRRING" */
#define WEIR_RING_LAYOUT 1
#define WEIR_RING_HEADER_SIZE 8192
#define WEIR_RING_FRAME_HEADER_SIZE 32
#define WEIR_RING_FRAME_ALIGN 32
#define WEIR_RING_MIN_SIZE (UINT64_C(64) << 10)
#define WEIR_RING_MAX_SIZE (UINT64_C(64) << 30)
#define WEIR_RING_WAIT_GROUPS 64

enum weir_engine { WEIR_ENGINE_POSTGRESQL = 1, WEIR_ENGINE_MARIADB = 2, WEIR_ENGINE_MYSQL = 3 };
enum weir_state { WEIR_STATE_RUNNING = 1, WEIR_STATE_STOPPED = 2 };
enum weir_mode { WEIR_MODE_UNTOLD = 0, WEIR_MODE_OFF = 1, WEIR_MODE_ASYNC = 2, WEIR_MODE_SYNC = 3 };
enum weir_sync_level { WEIR_LEVEL_TRANSACTION = 1, WEIR_LEVEL_STATEMENT = 2, WEIR_LEVEL_STRICT = 3 };
enum weir_on_failure { WEIR_FAILURE_CONTINUE = 1, WEIR_FAILURE_FAIL_OPERATION = 2 };
enum weir_path { WEIR_PATH_UNKNOWN = 0, WEIR_PATH_HEALTHY = 1, WEIR_PATH_DEGRADED = 2 };
enum weir_commit { WEIR_RESERVED = 0, WEIR_COMMITTED = 1, WEIR_TORN = 2 };
enum weir_frame_kind { WEIR_FRAME_EVENT = 1, WEIR_FRAME_GAP = 2, WEIR_FRAME_PAD = 3 };

typedef struct weir_checkpoint {
	uint64_t tail;
	uint64_t number;
	uint8_t hash[32];
	uint64_t lost;
	uint64_t at_us;
	uint64_t spooled;
	uint8_t durable_hash[32];
	uint8_t reserved[24];
} weir_checkpoint;

typedef struct weir_wait_group {
	uint32_t futex;
	uint32_t waiters;
} weir_wait_group;

typedef struct weir_frame {
	uint32_t commit;
	uint32_t length;
	uint64_t number;
	uint32_t kind;
	uint32_t reserved;
	uint64_t time_us;
} weir_frame;

/* The table above as the compiler sees it; ring_layout.c asserts every offset. */
typedef struct weir_header {
	uint64_t magic;
	uint32_t layout;
	uint32_t header_size;
	uint64_t data_size;
	uint64_t epoch;
	uint32_t engine;
	uint32_t server_version;
	uint32_t state;
	int32_t server_pid;
	uint64_t started_us;
	uint64_t starts;
	char server_version_text[64];

	uint32_t lock;
	uint32_t reserved0;
	uint64_t head;
	uint64_t number;
	uint64_t lost;
	uint64_t unnumbered;
	uint64_t released;
	uint64_t released_through;
	uint64_t released_at_us;
	uint32_t gap_sequence;
	uint32_t reserved2;
	uint64_t gap_first;
	uint64_t gap_last;
	uint64_t gap_from_us;
	uint64_t gap_to_us;
	uint8_t reserved3[24];

	uint64_t tail;
	uint64_t stored;
	uint64_t durable;
	int32_t capture_pid;
	uint32_t reserved4;
	uint64_t capture_seen_us;
	uint32_t path;
	uint32_t reserved1;
	uint64_t refused;
	uint8_t reserved5[8];

	uint32_t mode;
	uint32_t sync_level;
	uint32_t on_failure;
	uint32_t sync_timeout_ms;
	uint64_t policy_generation;
	uint8_t reserved6[40];

	uint32_t bell;
	uint32_t capture_sleeps;
	uint8_t reserved7[56];

	uint32_t active_checkpoint;
	uint32_t reserved8;
	uint64_t cut_sequence;
	uint64_t cut_first;
	uint64_t cut_last;
	uint64_t cut_from_us;
	uint64_t cut_to_us;
	uint8_t reserved9[16];
	weir_checkpoint checkpoints[2];
	uint8_t reserved10[256];

	weir_wait_group wait_groups[WEIR_RING_WAIT_GROUPS];
	uint8_t source[256];
	uint8_t reserved11[2304];

	uint32_t settings_length;
	uint32_t settings_crc;
	uint8_t settings[4088];
} weir_header;

/* An open ring. The server opens it once; sessions inherit it by fork. */
typedef struct weir_ring {
	weir_header *header;
	uint8_t *data;
	uint64_t data_size; /* a copy: the one in the header is not trusted */
	int fd;
} weir_ring;

/* What the server says of itself and wants. */
typedef struct weir_ring_options {
	const char *path;
	uint64_t size; /* bytes of data; rounded up to a multiple of 4096 */
	int64_t group; /* group of a new file; -1 for the process's own */
	uint32_t engine;
	uint32_t server_version;
	const char *server_version_text;
} weir_ring_options;

/*
 * weir_ring_open maps the ring for the server, making it where there is none,
 * and takes the server's lock. No session may live yet. A ring that exists is
 * taken over with everything unread in it: frames that nobody committed become
 * torn. A ring of another size is kept while it has something unread, and made
 * anew, with a new epoch, once it has not.
 *
 * Returns 0; or -1 with a message in err that names the cause and the way out:
 * the path is not in memory (tmpfs), no room, another server holds it, another
 * owner, another layout, not a ring at all. Whatever fails, a file that was
 * there stays as it was.
 */
int weir_ring_open(weir_ring *ring, const weir_ring_options *options, char *err, size_t err_size);

/*
 * weir_ring_recover makes the ring whole after all sessions died: it frees the
 * lock, marks uncommitted frames torn, and repairs the number. Call it when,
 * and only when, no session lives. weir_ring_open calls it.
 */
void weir_ring_recover(weir_ring *ring);

/* weir_ring_stopping announces that the server stops because it was told to. */
void weir_ring_stopping(weir_ring *ring);

/* weir_ring_largest is the longest payload that weir_ring_put takes: an eighth of the ring. */
uint32_t weir_ring_largest(const weir_ring *ring);

/*
 * weir_ring_put gives the event the next number and copies it in. It never
 * waits for room: where there is none, the event is lost and its number is part
 * of a gap, which the next event that finds room writes down. time_us is when
 * the event ended.
 *
 * Returns true when the event is in the ring. *number is its number in both
 * cases, and 0 if the lock could not be had for a second (counted in
 * "unnumbered"). Async-signal-safe; makes no system call unless the lock is
 * contended. length is at most weir_ring_largest.
 */
bool weir_ring_put(weir_ring *ring, const void *payload, uint32_t length, uint64_t time_us, uint64_t *number);

/*
 * weir_ring_has_room says whether a payload of length bytes would find room now.
 * Another session may take that room.
 */
bool weir_ring_has_room(const weir_ring *ring, uint32_t length);

/* ------------------------------------------------------------------------
 * Synchronous mode (ring_wait.c): waiting until a number is durable.
 */

/* Why a wait ended, or that it did not. */
enum weir_waited {
	WEIR_WAIT_AGAIN,   /* not yet: see to what the server wants of the session, and call again */
	WEIR_WAIT_DURABLE, /* the number is on the journal's disk; what was waited for is there */
	WEIR_WAIT_TIMEOUT, /* the sync timeout is over; from now on the path is not healthy, for everybody */
	WEIR_WAIT_DEGRADED, /* the path is not healthy: nobody waits until capture says that it is */
	WEIR_WAIT_UNSYNCED, /* capture has ended synchronous mode */
};

typedef struct weir_wait {
	uint64_t number;
	int64_t begun_ms;   /* by the monotonic clock */
	uint32_t slice_ms;  /* the longest sleep in one call */
	uint32_t timeouts;  /* sleeps that nobody woke it from */
} weir_wait;

/* weir_wait_begin is a wait for a number that this session wrote. */
weir_wait weir_wait_begin(uint64_t number);

/*
 * weir_ring_wait waits for a slice of at most 100 ms, shorter when a signal comes
 * in. It wakes capture where that sleeps; everything that the session wrote must
 * lie in the ring before. It holds nothing, and may be given up at any time.
 */
enum weir_waited weir_ring_wait(weir_ring *ring, weir_wait *wait);

/*
 * weir_ring_wait_room naps a millisecond, unless there is room for such a
 * payload (then it returns DURABLE), or no use in waiting for it. Room that does
 * not come within the sync timeout degrades the path too.
 */
enum weir_waited weir_ring_wait_room(weir_ring *ring, const weir_wait *wait, uint32_t length);

/* weir_ring_durable says whether the number is on the journal's disk. */
static inline bool
weir_ring_durable(const weir_ring *ring, uint64_t number)
{
	return __atomic_load_n(&ring->header->durable, __ATOMIC_ACQUIRE) >= number;
}

/*
 * weir_ring_released notes that the client is told of a completion whose record,
 * of that number, is not durable: every such one is counted.
 */
void weir_ring_released(weir_ring *ring, uint64_t number, uint64_t time_us);

/* weir_ring_refused notes that fail_operation refused a statement or a commit. */
void weir_ring_refused(weir_ring *ring);

/* weir_ring_sync_timeout_ms is how long a session waits at most: what capture said, 5 s where it said nothing. */
uint32_t weir_ring_sync_timeout_ms(const weir_ring *ring);

/* weir_ring_path is whether records reach the journal: an enum weir_path, or what somebody wrote there. */
static inline uint32_t
weir_ring_path(const weir_ring *ring)
{
	return __atomic_load_n(&ring->header->path, __ATOMIC_ACQUIRE);
}

/* weir_ring_mode is what capture wants: one load, for the first line of every hook. */
static inline uint32_t
weir_ring_mode(const weir_ring *ring)
{
	return __atomic_load_n(&ring->header->mode, __ATOMIC_RELAXED);
}

#endif
