package pgauditlog

import (
	"bytes"
	"errors"
	"strings"
)

// maxRecord bounds a record of the log, in bytes. A longer one is told as lost: a server that logs statements of that
// size needs the engine module.
const maxRecord = 16 << 20

// maxFields bounds the fields of a record and of a list of bind values, which the wire protocol limits to 65,535.
const maxFields = 1 << 16

// splitter finds where records end. Its zero value begins at a record.
//
// In a csv log a record ends with the first line end outside quotes; a quote in quotes is doubled, so that counting
// quotes is enough. In a json log a record is a line.
type splitter struct {
	json   bool
	quoted bool
}

// end returns how many bytes of b belong to the record, its line end included, or -1 where b ends before the record does;
// the next call goes on behind b.
func (s *splitter) end(b []byte) int {
	if s.json {
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			return i + 1
		}
		return -1
	}
	for at := 0; ; {
		if s.quoted {
			i := bytes.IndexByte(b[at:], '"')
			if i < 0 {
				return -1
			}
			s.quoted = false
			at += i + 1
			continue
		}
		i := bytes.IndexAny(b[at:], "\"\n")
		if i < 0 {
			return -1
		}
		at += i + 1
		if b[at-1] == '\n' {
			return at
		}
		s.quoted = true
	}
}

var errFields = errors.New("not well-formed CSV")

// fields splits one CSV record, as PostgreSQL and pgaudit write it, and appends its fields to dst. What encoding/csv does
// not do is keep carriage returns as they are.
func fields(dst []string, record string) ([]string, error) {
	for count := 0; ; count++ {
		if count == maxFields {
			return dst, errFields
		}
		if !strings.HasPrefix(record, `"`) {
			field, rest, more := strings.Cut(record, ",")
			if strings.Contains(field, `"`) {
				return dst, errFields
			}
			dst = append(dst, field)
			if !more {
				return dst, nil
			}
			record = rest
			continue
		}
		field, rest, err := unquote(record[1:])
		if err != nil {
			return dst, err
		}
		dst = append(dst, field)
		if rest == "" {
			return dst, nil
		}
		if rest[0] != ',' {
			return dst, errFields
		}
		record = rest[1:]
	}
}

// unquote takes a field of which the opening quote is gone.
func unquote(s string) (field, rest string, err error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '"')
		if i < 0 {
			return "", "", errFields
		}
		if i+1 == len(s) || s[i+1] != '"' {
			if b.Len() == 0 {
				return s[:i], s[i+1:], nil
			}
			b.WriteString(s[:i])
			return b.String(), s[i+1:], nil
		}
		b.WriteString(s[:i+1])
		s = s[i+2:]
	}
}
