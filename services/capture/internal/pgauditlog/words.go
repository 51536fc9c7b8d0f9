package pgauditlog

import (
	"strings"

	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// classes are pgaudit's.
var classes = map[string]activityv1.Class{
	"READ": activityv1.Class_CLASS_READ, "WRITE": activityv1.Class_CLASS_WRITE, "FUNCTION": activityv1.Class_CLASS_FUNCTION,
	"ROLE": activityv1.Class_CLASS_ROLE, "DDL": activityv1.Class_CLASS_DDL, "MISC": activityv1.Class_CLASS_MISC,
	"MISC_SET": activityv1.Class_CLASS_MISC,
}

// objectType maps pgaudit's word to ours. Event triggers give it every kind of object that DDL knows; those that Aurora
// does not name are UNKNOWN.
func objectType(word string) activityv1.ObjectType {
	if n, ok := activityv1.ObjectType_value["OBJECT_TYPE_"+strings.ToUpper(strings.ReplaceAll(word, " ", "_"))]; ok && word != "" {
		return activityv1.ObjectType(n)
	}
	return activityv1.ObjectType_OBJECT_TYPE_UNKNOWN
}

// guess reads class and command off the first words of a statement of which pgaudit said nothing, for it failed.
func guess(statement string) (activityv1.Class, string) {
	words := firstWords(statement)
	first, second, _ := strings.Cut(words, " ")
	switch first {
	case "SELECT", "VALUES", "TABLE", "WITH":
		return activityv1.Class_CLASS_READ, "SELECT"
	case "INSERT", "UPDATE", "DELETE", "MERGE":
		return activityv1.Class_CLASS_WRITE, first
	case "TRUNCATE":
		return activityv1.Class_CLASS_WRITE, "TRUNCATE TABLE"
	case "GRANT", "REVOKE":
		return activityv1.Class_CLASS_ROLE, first
	case "CREATE", "ALTER", "DROP":
		switch second {
		case "ROLE", "USER", "GROUP":
			return activityv1.Class_CLASS_ROLE, first + " ROLE"
		case "TABLE", "INDEX", "VIEW", "FUNCTION", "PROCEDURE", "SCHEMA", "DATABASE", "EXTENSION", "SEQUENCE", "TYPE", "TRIGGER":
			return activityv1.Class_CLASS_DDL, words
		}
		return activityv1.Class_CLASS_DDL, first
	case "DO", "CALL":
		return activityv1.Class_CLASS_FUNCTION, first
	case "BEGIN", "COMMIT", "ROLLBACK", "SET", "SHOW", "COPY", "FETCH", "EXECUTE", "EXPLAIN", "VACUUM", "ANALYZE", "LOCK":
		return activityv1.Class_CLASS_MISC, first
	}
	return activityv1.Class_CLASS_MISC, "UNKNOWN"
}

// firstWords is up to two words in capitals. A comment ends the guess.
func firstWords(statement string) string {
	statement = strings.TrimLeft(statement[:min(len(statement), 256)], " \t\r\n\f\v(")
	words := strings.FieldsFunc(statement, func(r rune) bool {
		return !(r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= 0x80)
	})
	if len(words) == 0 || !strings.HasPrefix(statement, words[0]) {
		return ""
	}
	return strings.ToUpper(strings.Join(words[:min(len(words), 2)], " "))
}

// redacted is what stands for what is not shown, as in pgaudit's lines.
const redacted = "<REDACTED>"

// redact cuts a statement after the word PASSWORD, where a value can follow. pgaudit does so in the lines of CREATE and
// ALTER ROLE; the server's own error lines have the statement whole, and so have pgaudit's lines of what was sent to the
// server together with a CREATE ROLE.
func redact(statement string) (shown string, cut bool) {
	if strings.HasSuffix(statement, redacted) {
		return statement, false
	}
	class, _ := guess(statement)
	data := class == activityv1.Class_CLASS_READ || class == activityv1.Class_CLASS_WRITE // where it is a column's name too
	for end := 0; ; {
		at := indexFold(statement[end:], "password")
		if at < 0 {
			return statement, false
		}
		end += at + len("password")
		if !data || givesValue(statement[end:]) {
			return statement[:end] + " " + redacted, true
		}
	}
}

// givesValue says whether a value can stand at the beginning of s, so that the word before it is no column's name.
func givesValue(s string) bool {
	s = strings.TrimLeft(s, " \t\r\n\f\v")
	if s == "" {
		return false
	}
	return strings.ContainsRune("='\"$", rune(s[0])) || len(s) > 1 && (s[1] == '\'' || s[1] == '&')
}

// indexFold is strings.Index without regard to case, for an ASCII word in lower case.
func indexFold(s, word string) int {
	for i := 0; i+len(word) <= len(s); i++ {
		if s[i]|0x20 == word[0] && strings.EqualFold(s[i:i+len(word)], word) {
			return i
		}
	}
	return -1
}
