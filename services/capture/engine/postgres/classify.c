/*
 * classify.c: pgaudit's class and the command tag of a statement; see
 * classify.h. The vocabulary is pgaudit's, for Aurora's is.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "storage/lockdefs.h"
#include "tcop/cmdtag.h"
#include "tcop/utility.h"
#include "utils/acl.h"

#include "classify.h"

static const weir_verb verb_select = {WEIR_CLASS_READ, "SELECT"};
static const weir_verb verb_insert = {WEIR_CLASS_WRITE, "INSERT"};
static const weir_verb verb_update = {WEIR_CLASS_WRITE, "UPDATE"};
static const weir_verb verb_delete = {WEIR_CLASS_WRITE, "DELETE"};
static const weir_verb verb_unknown = {WEIR_CLASS_MISC, "UNKNOWN"};

weir_verb
weir_verb_of_operation(CmdType operation)
{
	switch (operation) {
		case CMD_SELECT:
			return verb_select;
		case CMD_INSERT:
			return verb_insert;
		case CMD_UPDATE:
			return verb_update;
		case CMD_DELETE:
			return verb_delete;
#if PG_VERSION_NUM >= 150000
		case CMD_MERGE:
			return (weir_verb) {WEIR_CLASS_WRITE, "MERGE"};
#endif
		default:
			return verb_unknown;
	}
}

/* class_of_ddl tells what concerns roles and privileges from every other DDL. */
static enum weir_class
class_of_ddl(Node *parsetree, CommandTag tag)
{
	switch (nodeTag(parsetree)) {
		case T_CreateRoleStmt:
		case T_AlterRoleStmt:
		case T_AlterRoleSetStmt:
		case T_DropRoleStmt:
		case T_CreateUserMappingStmt:
		case T_AlterUserMappingStmt:
		case T_GrantStmt:
		case T_GrantRoleStmt:
		case T_AlterDefaultPrivilegesStmt:
			return WEIR_CLASS_ROLE;
		case T_RenameStmt:
		case T_DropStmt:
			return tag == CMDTAG_ALTER_ROLE || tag == CMDTAG_DROP_ROLE ? WEIR_CLASS_ROLE : WEIR_CLASS_DDL;
		default:
			return WEIR_CLASS_DDL;
	}
}

/* utility_class follows pgaudit: by the server's own log level, then by the tree. */
static enum weir_class
utility_class(Node *parsetree, CommandTag tag)
{
	NodeTag node = nodeTag(parsetree);

	switch (GetCommandLogLevel(parsetree)) {
		case LOGSTMT_MOD:
			return node == T_ExecuteStmt ? WEIR_CLASS_MISC : WEIR_CLASS_WRITE;
		case LOGSTMT_DDL:
			return class_of_ddl(parsetree, tag);
		default:
			break;
	}
	switch (node) {
		case T_CopyStmt:
		case T_DeclareCursorStmt:
		case T_PrepareStmt:
			return WEIR_CLASS_READ;
		case T_DoStmt:
		case T_CallStmt:
			return WEIR_CLASS_FUNCTION;
		default:
			return WEIR_CLASS_MISC;
	}
}

weir_verb
weir_verb_of_utility(Node *parsetree)
{
	CommandTag tag = CreateCommandTag(parsetree);

	return (weir_verb) {utility_class(parsetree, tag), GetCommandTagName(tag)};
}

weir_verb
weir_verb_of_permissions(AclMode permissions, int lock, weir_verb statement)
{
	/* MERGE asks for what its actions may do; it stays one command. */
	if (statement.class == WEIR_CLASS_WRITE && strcmp(statement.command, "MERGE") == 0 && (permissions & ~ACL_SELECT))
		return statement;
	/* COPY reads or writes by itself. */
	if (strcmp(statement.command, "COPY") == 0)
		return statement;
	if (permissions & ACL_INSERT)
		return verb_insert;
	if ((permissions & ACL_UPDATE) && lock >= RowExclusiveLock)
		return verb_update;
	if (permissions & ACL_DELETE)
		return verb_delete;
	if (permissions & (ACL_SELECT | ACL_UPDATE))
		return verb_select;
	return statement;
}

enum weir_object_type
weir_object_type_of(char relkind)
{
	switch (relkind) {
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			return WEIR_OBJECT_TABLE;
		case RELKIND_INDEX:
		case RELKIND_PARTITIONED_INDEX:
			return WEIR_OBJECT_INDEX;
		case RELKIND_SEQUENCE:
			return WEIR_OBJECT_SEQUENCE;
		case RELKIND_TOASTVALUE:
			return WEIR_OBJECT_TOAST_TABLE;
		case RELKIND_VIEW:
			return WEIR_OBJECT_VIEW;
		case RELKIND_MATVIEW:
			return WEIR_OBJECT_MATERIALIZED_VIEW;
		case RELKIND_COMPOSITE_TYPE:
			return WEIR_OBJECT_COMPOSITE_TYPE;
		case RELKIND_FOREIGN_TABLE:
			return WEIR_OBJECT_FOREIGN_TABLE;
		default:
			return WEIR_OBJECT_UNKNOWN;
	}
}

/*
 * The guess. A statement begins with up to two words in capitals; the longest
 * entry that matches wins because it comes first.
 */
static const struct guess {
	const char *words;
	weir_verb verb;
} guesses[] = {
	{"SELECT", {WEIR_CLASS_READ, "SELECT"}},
	{"VALUES", {WEIR_CLASS_READ, "SELECT"}},
	{"TABLE", {WEIR_CLASS_READ, "SELECT"}},
	{"INSERT", {WEIR_CLASS_WRITE, "INSERT"}},
	{"UPDATE", {WEIR_CLASS_WRITE, "UPDATE"}},
	{"DELETE", {WEIR_CLASS_WRITE, "DELETE"}},
	{"MERGE", {WEIR_CLASS_WRITE, "MERGE"}},
	{"TRUNCATE", {WEIR_CLASS_WRITE, "TRUNCATE TABLE"}},
	{"CREATE ROLE", {WEIR_CLASS_ROLE, "CREATE ROLE"}},
	{"CREATE USER", {WEIR_CLASS_ROLE, "CREATE ROLE"}},
	{"CREATE GROUP", {WEIR_CLASS_ROLE, "CREATE ROLE"}},
	{"ALTER ROLE", {WEIR_CLASS_ROLE, "ALTER ROLE"}},
	{"ALTER USER", {WEIR_CLASS_ROLE, "ALTER ROLE"}},
	{"ALTER GROUP", {WEIR_CLASS_ROLE, "ALTER ROLE"}},
	{"DROP ROLE", {WEIR_CLASS_ROLE, "DROP ROLE"}},
	{"DROP USER", {WEIR_CLASS_ROLE, "DROP ROLE"}},
	{"GRANT", {WEIR_CLASS_ROLE, "GRANT"}},
	{"REVOKE", {WEIR_CLASS_ROLE, "REVOKE"}},
	{"CREATE TABLE", {WEIR_CLASS_DDL, "CREATE TABLE"}},
	{"CREATE INDEX", {WEIR_CLASS_DDL, "CREATE INDEX"}},
	{"CREATE VIEW", {WEIR_CLASS_DDL, "CREATE VIEW"}},
	{"CREATE FUNCTION", {WEIR_CLASS_DDL, "CREATE FUNCTION"}},
	{"CREATE PROCEDURE", {WEIR_CLASS_DDL, "CREATE PROCEDURE"}},
	{"CREATE SCHEMA", {WEIR_CLASS_DDL, "CREATE SCHEMA"}},
	{"CREATE DATABASE", {WEIR_CLASS_DDL, "CREATE DATABASE"}},
	{"CREATE EXTENSION", {WEIR_CLASS_DDL, "CREATE EXTENSION"}},
	{"CREATE", {WEIR_CLASS_DDL, "CREATE"}},
	{"ALTER TABLE", {WEIR_CLASS_DDL, "ALTER TABLE"}},
	{"ALTER", {WEIR_CLASS_DDL, "ALTER"}},
	{"DROP TABLE", {WEIR_CLASS_DDL, "DROP TABLE"}},
	{"DROP", {WEIR_CLASS_DDL, "DROP"}},
	{"DO", {WEIR_CLASS_FUNCTION, "DO"}},
	{"CALL", {WEIR_CLASS_FUNCTION, "CALL"}},
	{"PREPARE", {WEIR_CLASS_READ, "PREPARE"}},
	{"DECLARE", {WEIR_CLASS_READ, "DECLARE CURSOR"}},
	{"EXECUTE", {WEIR_CLASS_MISC, "EXECUTE"}},
	{"EXPLAIN", {WEIR_CLASS_MISC, "EXPLAIN"}},
	{"COPY", {WEIR_CLASS_MISC, "COPY"}},
	{"FETCH", {WEIR_CLASS_MISC, "FETCH"}},
	{"SET", {WEIR_CLASS_MISC, "SET"}},
	{"BEGIN", {WEIR_CLASS_MISC, "BEGIN"}},
	{"COMMIT", {WEIR_CLASS_MISC, "COMMIT"}},
	{"ROLLBACK", {WEIR_CLASS_MISC, "ROLLBACK"}},
};

/*
 * first_words copies up to two words in capitals, divided by one space. An
 * opening parenthesis may stand before a SELECT; a comment ends the guess.
 */
static void
first_words(weir_slice text, char *words, size_t size)
{
	size_t n = 0;
	size_t i = 0;

	for (int count = 0; count < 2; count++) {
		size_t start = n;

		while (i < text.length && (strchr(" \t\n\r\f\v", text.start[i]) || (count == 0 && text.start[i] == '(')))
			i++;
		if (count == 1 && n + 1 < size)
			words[n++] = ' ';
		for (; i < text.length && n + 1 < size; i++) {
			char c = text.start[i];

			if (c >= 'a' && c <= 'z')
				c -= 'a' - 'A';
			/* A word that goes on is not the keyword it begins with. */
			if ((c < 'A' || c > 'Z') && c != '_' && (c < '0' || c > '9') && (unsigned char) c < 0x80)
				break;
			words[n++] = c;
		}
		if (n == start)
			break;
	}
	words[n] = '\0';
}

weir_verb
weir_verb_of_text(weir_slice text)
{
	char words[48];

	first_words(text, words, sizeof words);
	for (size_t i = 0; i < lengthof(guesses); i++) {
		size_t n = strlen(guesses[i].words);

		if (strncmp(words, guesses[i].words, n) == 0 && (words[n] == '\0' || words[n] == ' '))
			return guesses[i].verb;
	}
	return verb_unknown;
}
