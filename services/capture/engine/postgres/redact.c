/*
 * redact.c: passwords do not leave the server; see redact.h.
 *
 * A parse tree says which statement it is; then the first "password" is cut
 * behind, wherever it stands, for it can only be the keyword, a name, or part
 * of what must not be seen. Where there is no parse tree, the words of the text
 * have to do: CREATE or ALTER, directly followed by ROLE, USER or GROUP, and
 * later PASSWORD. Cutting too much is the error to make.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "redact.h"

weir_secrecy
weir_secrecy_of(Node *parsetree)
{
	switch (nodeTag(parsetree)) {
		case T_CreateRoleStmt:
		case T_AlterRoleStmt:
			return WEIR_PASSWORD;
		case T_CreateUserMappingStmt:
		case T_AlterUserMappingStmt:
		case T_CreateForeignServerStmt:
		case T_AlterForeignServerStmt:
		case T_CreateSubscriptionStmt:
		case T_AlterSubscriptionStmt:
			return WEIR_OPTIONS;
		case T_DoStmt:
		case T_CreateFunctionStmt:
		case T_PrepareStmt:
		case T_ExplainStmt:
			return WEIR_BODY;
		default:
			return WEIR_PLAIN;
	}
}

static inline char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

/* A byte above 127 is part of a name in every server encoding. */
static inline bool
is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
		(unsigned char) c >= 0x80;
}

static bool
equals(const char *word, size_t length, const char *lowercase)
{
	size_t i;

	for (i = 0; i < length && lowercase[i]; i++)
		if (lower(word[i]) != lowercase[i])
			return false;
	return i == length && lowercase[i] == '\0';
}

/* behind returns the offset behind the first occurrence of a word, as pgaudit looks for it: anywhere; 0 for none. */
static size_t
behind(weir_slice text, const char *lowercase)
{
	size_t n = strlen(lowercase);

	for (size_t i = 0; i + n <= text.length; i++)
		if (equals(text.start + i, n, lowercase))
			return i + n;
	return 0;
}

/* skip_blank skips white space and comments, which nest. */
static size_t
skip_blank(weir_slice text, size_t i)
{
	while (i < text.length) {
		const char *p = text.start + i;
		size_t left = text.length - i;

		if (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r' || *p == '\f' || *p == '\v')
			i++;
		else if (left >= 2 && p[0] == '-' && p[1] == '-') {
			while (i < text.length && text.start[i] != '\n' && text.start[i] != '\r')
				i++;
		} else if (left >= 2 && p[0] == '/' && p[1] == '*') {
			int depth = 0;

			do {
				if (text.length - i >= 2 && text.start[i] == '/' && text.start[i + 1] == '*') {
					depth++;
					i += 2;
				} else if (text.length - i >= 2 && text.start[i] == '*' && text.start[i + 1] == '/') {
					depth--;
					i += 2;
				} else
					i++;
			} while (depth > 0 && i < text.length);
		} else
			break;
	}
	return i;
}

/*
 * find_role_password looks for SQL that gives a role a password, in code or in
 * quotes. It returns the offset to cut at, 0 for none. With eager, the first
 * literal behind the words ALTER ROLE will do: PASSWORD may be misspelt.
 */
static size_t
find_role_password(weir_slice text, bool eager)
{
	bool after_verb = false;
	bool in_role = false;
	size_t i = 0;

	while ((i = skip_blank(text, i)) < text.length) {
		size_t start = i;
		size_t length;

		while (i < text.length && is_word(text.start[i]))
			i++;
		length = i - start;
		if (length == 0) {
			char c = text.start[i];

			if (in_role && eager && c == '\'')
				return i;
			after_verb = false;
			i++;
			continue;
		}
		if (in_role) {
			if (equals(text.start + start, length, "password"))
				return i;
			/* Behind $ or a prefix such as E and U& a literal begins as well. */
			if (eager && text.start[start] == '$' && i < text.length && text.start[i - 1] == '$')
				return start;
		} else if (after_verb && (equals(text.start + start, length, "role") || equals(text.start + start, length, "user") ||
								  equals(text.start + start, length, "group")))
			in_role = true;
		after_verb = equals(text.start + start, length, "create") || equals(text.start + start, length, "alter");
	}
	return 0;
}

bool
weir_redact(weir_slice *text, weir_secrecy secrecy)
{
	size_t end = 0;

	switch (secrecy) {
		case WEIR_PLAIN:
			break;
		case WEIR_PASSWORD:
			end = behind(*text, "password");
			break;
		case WEIR_OPTIONS:
			end = behind(*text, "password");
			/* An option's name can be written in escapes: U&"p\0061ssword". */
			if (end == 0 && memchr(text->start, '\\', text->length))
				end = behind(*text, "options");
			break;
		case WEIR_BODY:
			end = find_role_password(*text, false);
			break;
		case WEIR_UNPARSED:
			end = find_role_password(*text, true);
			if (end == 0 && (behind(*text, "mapping") || behind(*text, "subscription") || behind(*text, "server")))
				end = behind(*text, "password");
			break;
	}
	if (end == 0)
		return false;
	while (end > 0 && text->start[end - 1] == ' ')
		end--;
	text->length = end;
	return true;
}
