/*
 * redact.c: the rules about secrets without a server, for tests.
 *
 * Reads texts, each behind a line "SECRECY LENGTH", and answers each with a line
 * "LENGTH SUSPECT DOUBT PARAMS" and the text as it is shown. PARAMS is a list
 * $1,$2 or * for all, "-" for none.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../secrets.h"

#define SHOWN "<REDACTED>"

static void
answer(const char *text, size_t length, int secrecy)
{
	weir_secrets found;
	size_t shown = length;
	size_t at = 0;

	weir_find_secrets(text, length, (weir_secrecy) secrecy, false, &found);
	for (size_t i = 0; i < found.count; i++) {
		/* What the server relies on: in order, apart, within the text. */
		if (found.at[i].start < at || found.at[i].end <= found.at[i].start || found.at[i].end > length)
			abort();
		at = found.at[i].end;
		shown = shown - (found.at[i].end - found.at[i].start) + strlen(SHOWN);
	}
	printf("%zu %d %d ", shown, secrecy == WEIR_CONTENT ? weir_suspect_content(text, length) : weir_suspect(text, length),
		   found.doubt);
	if (found.all_params)
		putchar('*');
	else if (found.params == 0)
		putchar('-');
	for (size_t i = 0; i < found.params; i++)
		printf("%s$%u", i ? "," : "", found.param[i]);
	putchar('\n');
	at = 0;
	for (size_t i = 0; i < found.count; i++) {
		fwrite(text + at, 1, found.at[i].start - at, stdout);
		fputs(SHOWN, stdout);
		at = found.at[i].end;
	}
	fwrite(text + at, 1, length - at, stdout);
	fflush(stdout);
}

int
main(void)
{
	int secrecy;
	size_t length;

	while (scanf("%d %zu%*c", &secrecy, &length) == 2) {
		/* Exactly as long as it is: reading beyond it is seen. */
		char *text = malloc(length ? length : 1);

		if (!text || fread(text, 1, length, stdin) != length)
			return 1;
		answer(text, length, secrecy);
		free(text);
	}
	return 0;
}
