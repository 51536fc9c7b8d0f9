/*
 * engine.c: a server that does what it is told on standard input, a line a
 * command, and answers each with a line. `engine FILE SIZE [GROUP]` opens the
 * ring; its end without `stop` is that of a server which was killed.
 *
 *   put LENGTH TIME     → NUMBER 1, or NUMBER 0 where there was no room
 *   die LENGTH TIME     → a session dies with its frame reserved; the ring's number
 *   lock PID, unlock    → as if that process held the lock
 *   recover, stop       → ok
 *   wait NUMBER         → why the wait ended, and after how many ms
 *   kill NUMBER         → a session is killed in its wait; how many waiters are counted
 *   waiters             → how many that is now
 *   room LENGTH         → 1 where such a payload finds room
 *   released NUMBER TIME, refused   → ok
 *
 * SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 */
#include "../ring.h"
#include "pattern.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static uint8_t payload[1 << 20];

/* die_reserved ends a child by the fault of copying a payload that nobody may read: after the number, before the commit. */
static void
die_reserved(weir_ring *ring, uint32_t length, uint64_t time_us)
{
	struct rlimit no_core = {0, 0};
	uint64_t number;
	void *unreadable;
	pid_t child = fork();

	if (child == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		unreadable = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		weir_ring_put(ring, unreadable, length, time_us, &number);
		_exit(1);
	}
	waitpid(child, NULL, 0);
}

/* wait_whole waits as a session does that nobody wants anything of. */
static void
wait_whole(weir_ring *ring, uint64_t number)
{
	static const char *const names[] = {"again", "durable", "timeout", "degraded", "unsynced"};
	weir_wait wait = weir_wait_begin(number);
	enum weir_waited waited;

	do
		waited = weir_ring_wait(ring, &wait);
	while (waited == WEIR_WAIT_AGAIN);
	printf("%s %" PRId64 "\n", names[waited], weir_wait_begin(0).begun_ms - wait.begun_ms);
}

static uint32_t
waiters(const weir_ring *ring)
{
	uint32_t sum = 0;

	for (int i = 0; i < WEIR_RING_WAIT_GROUPS; i++)
		sum += __atomic_load_n(&ring->header->wait_groups[i].waiters, __ATOMIC_SEQ_CST);
	return sum;
}

static void
kill_waiting(weir_ring *ring, uint64_t number)
{
	weir_wait wait = weir_wait_begin(number);
	uint32_t before = waiters(ring);
	pid_t child = fork();

	if (child == 0)
		for (;;)
			weir_ring_wait(ring, &wait);
	while (waiters(ring) == before)
		usleep(1000);
	kill(child, SIGSTOP); /* in its sleep, or on the way there or back */
	while (waitpid(child, NULL, WUNTRACED) < 0)
		;
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

int
main(int argc, char **argv)
{
	weir_ring_options options = {.engine = WEIR_ENGINE_POSTGRESQL, .server_version = 150020, .server_version_text = "15.20", .group = -1};
	struct rlimit limit;
	weir_ring ring;
	char err[1024], line[256];
	uint64_t time_us, number;
	uint32_t length, pid;
	bool in;

	if (argc < 3)
		return 2;
	options.path = argv[1];
	options.size = strtoull(argv[2], NULL, 10);
	if (argc > 3)
		options.group = atoll(argv[3]);
	if (getenv("FILE_LIMIT") != NULL) { /* a file system that is full at so many bytes */
		signal(SIGXFSZ, SIG_IGN);
		limit.rlim_cur = limit.rlim_max = strtoull(getenv("FILE_LIMIT"), NULL, 10);
		setrlimit(RLIMIT_FSIZE, &limit);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (weir_ring_open(&ring, &options, err, sizeof err) != 0) {
		printf("error %s\n", err);
		return 1;
	}
	printf("open %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", ring.header->epoch, ring.header->starts, ring.header->number,
	       ring.data_size);
	while (fgets(line, sizeof line, stdin) != NULL) {
		if (sscanf(line, "put %" SCNu32 " %" SCNu64, &length, &time_us) == 2 && length <= sizeof payload) {
			pattern(payload, length, time_us);
			in = weir_ring_put(&ring, payload, length, time_us, &number);
			printf("%" PRIu64 " %d\n", number, in);
		} else if (sscanf(line, "die %" SCNu32 " %" SCNu64, &length, &time_us) == 2) {
			die_reserved(&ring, length, time_us);
			printf("%" PRIu64 "\n", ring.header->number);
		} else if (sscanf(line, "lock %" SCNu32, &pid) == 1) {
			ring.header->lock = pid;
			puts("ok");
		} else if (sscanf(line, "wait %" SCNu64, &number) == 1) {
			wait_whole(&ring, number);
		} else if (sscanf(line, "kill %" SCNu64, &number) == 1) {
			kill_waiting(&ring, number);
			printf("%" PRIu32 "\n", waiters(&ring));
		} else if (strcmp(line, "waiters\n") == 0) {
			printf("%" PRIu32 "\n", waiters(&ring));
		} else if (sscanf(line, "room %" SCNu32, &length) == 1) {
			printf("%d\n", weir_ring_has_room(&ring, length));
		} else if (sscanf(line, "released %" SCNu64 " %" SCNu64, &number, &time_us) == 2) {
			weir_ring_released(&ring, number, time_us);
			puts("ok");
		} else if (strcmp(line, "refused\n") == 0) {
			weir_ring_refused(&ring);
			puts("ok");
		} else if (strcmp(line, "unlock\n") == 0) {
			ring.header->lock = 0;
			puts("ok");
		} else if (strcmp(line, "recover\n") == 0) {
			weir_ring_recover(&ring);
			puts("ok");
		} else if (strcmp(line, "stop\n") == 0) {
			weir_ring_stopping(&ring);
			puts("ok");
		} else {
			puts("what?");
		}
	}
	return 0;
}
