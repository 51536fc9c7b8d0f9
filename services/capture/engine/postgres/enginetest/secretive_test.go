package enginetest_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// secretive generates statements with a secret in them, in every way in which SQL lets one be written.
type secretive struct {
	rand *rand.Rand
}

func (g *secretive) pick(of ...string) string { return of[g.rand.IntN(len(of))] }

func (g *secretive) letters(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[g.rand.IntN(36)]
	}
	return string(b)
}

// secret is a value and the part of it that stands in a text as it is, however the rest is written.
func (g *secretive) secret() (value, needle string) {
	needle = g.letters(12)
	return g.letters(3) + g.pick("", "-", "!", "ü", ".", "%", "%L") + g.letters(2) + needle, needle
}

// cased writes a word in any case.
func (g *secretive) cased(word string) string {
	b := []byte(word)
	for i := range b {
		if g.rand.IntN(3) == 0 {
			b[i] = strings.ToUpper(word)[i]
		}
	}
	return string(b)
}

// space is what may stand between two tokens.
func (g *secretive) space() string {
	return g.pick(" ", " ", " ", "\n", "\t ", " /* it's */ ", " -- it's\n", " /* a /* nested */ 'one' */\r\n", "\n\n")
}

// quote writes a literal.
func (g *secretive) quote(value string) string {
	doubled := strings.ReplaceAll(value, "'", "''")
	switch g.rand.IntN(8) {
	case 0:
		return "E'" + g.escaped(value) + "'"
	case 1:
		escape := g.pick(`\`, "!", "?")
		literal := g.pick("U&", "u&") + "'" + g.unicode(value, escape) + "'"
		if escape != `\` {
			literal += g.space() + g.cased("uescape") + g.space() + "'" + escape + "'"
		}
		return literal
	case 2, 3:
		tag := "$" + g.pick("", "a", "body", "_q", "ü") + "$"
		if strings.Contains(value, "$") {
			tag = "$" + g.pick("a", "body", "_q", "ü") + g.letters(4) + "$"
		}
		return tag + value + tag
	case 4:
		// The parts of one literal, on lines of their own.
		if strings.Contains(value, "'") || len(value) < 4 {
			return "'" + doubled + "'"
		}
		cut := 1 + g.rand.IntN(3)
		return "'" + value[:cut] + "'" + g.pick("\n", " \n\t", " -- it's\n", "\r\n\r\n") + "'" + value[cut:] + "'"
	default:
		return "'" + doubled + "'"
	}
}

// escaped writes some characters of what begins a value in the escapes of E”.
func (g *secretive) escaped(value string) string {
	var b strings.Builder
	for i, c := range value {
		switch {
		case c == '\'':
			b.WriteString(g.pick(`\'`, `''`, `\x27`))
		case c == '\\':
			b.WriteString(`\\`)
		case i < 4 && c < 0x80 && g.rand.IntN(2) == 0:
			b.WriteString(g.pick(fmt.Sprintf(`\x%02x`, c), fmt.Sprintf(`\%03o`, c), fmt.Sprintf(`\u%04x`, c), fmt.Sprintf(`\U%08x`, c)))
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

func (g *secretive) unicode(value, escape string) string {
	var b strings.Builder
	for i, c := range value {
		switch {
		case string(c) == escape:
			b.WriteString(escape + escape)
		case c == '\'':
			b.WriteString("''")
		case i < 4 && g.rand.IntN(2) == 0:
			b.WriteString(g.pick(fmt.Sprintf("%s%04x", escape, c), fmt.Sprintf("%s+%06x", escape, c)))
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// optionName writes the name of an option.
func (g *secretive) optionName(name string) string {
	switch g.rand.IntN(4) {
	case 0:
		return `"` + name + `"`
	case 1:
		return `U&"` + g.unicode(name, `\`) + `"`
	default:
		return g.cased(name)
	}
}

// conninfo is a connection string.
func (g *secretive) conninfo(value string) string {
	word := g.pick("password", "sslpassword", "passfile")
	switch g.rand.IntN(4) {
	case 0:
		return fmt.Sprintf("host=127.0.0.1 port=1 %s='%s' dbname=x", word, strings.ReplaceAll(value, "'", `\'`))
	case 1:
		return fmt.Sprintf("%s=%s host=127.0.0.1 port=1 dbname=x", word, value)
	case 2:
		return fmt.Sprintf("postgres://joe:%s@127.0.0.1:1/x", value)
	default:
		return fmt.Sprintf("postgresql://127.0.0.1:1/x?%s=%s&connect_timeout=2", word, value)
	}
}

// simple is a statement with a secret, and what of it must not be shown.
func (g *secretive) simple() (sql, needle string) {
	value, needle := g.secret()
	q := g.quote(value)
	s := g.space
	switch g.rand.IntN(14) {
	case 0, 1, 2:
		return g.cased(g.pick("create", "alter")) + s() + g.cased(g.pick("role", "user")) + s() + g.pick("secretive", "nobody_there") + s() +
			g.pick("", "with ", "login encrypted ") + g.cased("password") + s() + q + s() + g.pick("", "login", "valid until 'infinity'"), needle
	case 3:
		return g.cased(g.pick("create", "alter")) + s() + "user" + s() + "mapping for" + s() + "public server" + s() + "far options" + s() + "(" +
			g.optionName(g.pick("password", "sslpassword", "passfile")) + s() + q + s() + ")", needle
	case 4:
		return "create server s" + g.letters(6) + " foreign data wrapper far_away options (host 'h'," + s() + g.optionName("password") + s() + q + ")", needle
	case 5:
		return "create subscription s" + g.letters(6) + s() + "connection" + s() + g.quote(g.conninfo(value)) + s() +
			"publication p with (connect = false, slot_name = none)", needle
	case 6:
		return "select" + s() + "dblink_connect(" + g.pick("", "'c', ") + g.quote(g.conninfo(value)) + ")", needle
	case 7:
		return "set" + s() + g.pick("", "local ", "session ") + "my." + g.cased("password") + s() + g.pick("=", "to") + s() + q, needle
	case 8:
		return "select" + s() + "set_config(" + g.quote("my.password") + s() + "," + s() + q + ", true)", needle
	case 9:
		return "select * from people where" + s() + g.pick("password", `"password"`) + s() + g.pick("=", "<>", "like") + s() + q + " and name = 'x'", needle
	case 10:
		return "insert into people (name," + s() + "password) values (" + g.quote("joe") + "," + s() + q + ")", needle
	case 11:
		return "alter role secretive set" + s() + "my.password" + s() + g.pick("=", "to") + s() + q, needle
	case 12:
		return "copy people (name) from program" + s() + g.quote("true PGPASSWORD="+value+" psql"), needle
	default:
		return "select 1 /* " + g.conninfo(value) + " */", needle
	}
}

// statement is a simple one, as it is or inside another.
func (g *secretive) statement() (sql, needle string) {
	sql, needle = g.simple()
	for depth := g.rand.IntN(3); depth > 0; depth-- {
		switch g.rand.IntN(5) {
		case 0:
			sql = "do" + g.space() + g.quote("begin execute "+g.quote(sql)+"; end")
		case 1:
			sql = "do" + g.space() + g.quote("begin begin execute "+g.quote(sql)+"; exception when others then raise notice 'no'; end; end")
		case 2:
			sql = "create or replace function f() returns void language plpgsql as" + g.space() + g.quote("begin "+sql+"; end")
		case 3:
			sql = "select 'before'; " + sql + "; select 'after'"
		default:
			sql = "explain " + sql
		}
	}
	return sql, needle
}

// broken is a statement that no server can parse.
func (g *secretive) broken(sql, needle string) string {
	switch g.rand.IntN(4) {
	case 0:
		return sql + " ) foo !!"
	case 1:
		return "selec 1; " + sql
	case 2:
		// The end of it is missing.
		return sql[:strings.LastIndex(sql, needle)+len(needle)]
	default:
		return strings.Replace(sql, "server", "sever", 1) + " ("
	}
}
