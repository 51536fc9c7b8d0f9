package das

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// plain says of each byte whether a JSON string holds it as it is. Bytes of
// 0x80 and more are looked at as UTF-8.
var plain = func() (t [256]bool) {
	for b := byte(' '); b < utf8.RuneSelf; b++ {
		t[b] = b != '"' && b != '\\'
	}
	return t
}()

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. It escapes what JSON requires and no
// more: quote, backslash and control characters. What is not valid UTF-8
// becomes U+FFFD, byte by byte, so the result is valid always.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if plain[b] {
			i++
			continue
		}
		if b >= utf8.RuneSelf {
			if r, size := utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		dst = append(dst, s[start:i]...)
		dst = appendEscaped(dst, b)
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// appendEscaped appends a byte that cannot stand in a string as it is.
func appendEscaped(dst []byte, b byte) []byte {
	switch b {
	case '"', '\\':
		return append(dst, '\\', b)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	if b >= utf8.RuneSelf {
		return utf8.AppendRune(dst, utf8.RuneError)
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
}

// longest is what one byte of a string renders to at most: \u001f.
const longest = 6

// rendered is how many bytes the character of s at i has, and how many it
// renders to.
func rendered(s string, i int) (size, cost int) {
	switch b := s[i]; {
	case plain[b]:
		return 1, 1
	case b < utf8.RuneSelf:
		var buf [longest]byte
		return 1, len(appendEscaped(buf[:0], b))
	}
	if _, size = utf8.DecodeRuneInString(s[i:]); size == 1 {
		return 1, utf8.RuneLen(utf8.RuneError)
	}
	return size, size
}

// StringLen is how many bytes AppendString makes of s, the quotes not counted.
func StringLen(s string) int {
	n := 0
	for i := 0; i < len(s); {
		size, cost := rendered(s, i)
		i += size
		n += cost
	}
	return n
}

// Fit returns how many bytes of s AppendString renders in at most limit bytes,
// the quotes not counted. It never splits a character.
func Fit(s string, limit int) int {
	if len(s) <= limit/longest {
		return len(s)
	}
	n := 0
	for i := 0; i < len(s); {
		size, cost := rendered(s, i)
		if n += cost; n > limit {
			return i
		}
		i += size
	}
	return len(s)
}

// appendNullable appends s, or null.
func appendNullable(dst []byte, s Nullable[string]) []byte {
	if !s.Valid {
		return append(dst, "null"...)
	}
	return AppendString(dst, s.Value)
}

// appendHash appends h as a JSON string of hexadecimal digits.
func appendHash(dst []byte, h *Hash) []byte {
	dst = append(dst, '"')
	dst = hex.AppendEncode(dst, h[:])
	return append(dst, '"')
}

// timeLayout is Aurora's: always six digits, always UTC, the offset without
// minutes. Consumers cut it at fixed columns.
const timeLayout = "2006-01-02 15:04:05.000000-07"

// timeSize is the length of every rendered time.
const timeSize = len(timeLayout)

// AppendTime appends t in Aurora's format, without quotes, cut to microseconds.
// The year of t in UTC must be between 0 and 9999.
func AppendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = appendTwo(dst, year/100)
	dst = appendTwo(dst, year%100)
	dst = append(dst, '-')
	dst = appendTwo(dst, int(month))
	dst = append(dst, '-')
	dst = appendTwo(dst, day)
	dst = append(dst, ' ')
	dst = appendTwo(dst, hour)
	dst = append(dst, ':')
	dst = appendTwo(dst, minute)
	dst = append(dst, ':')
	dst = appendTwo(dst, second)
	dst = append(dst, '.')
	micro := t.Nanosecond() / int(time.Microsecond)
	dst = appendTwo(dst, micro/10_000)
	dst = appendTwo(dst, micro/100%100)
	dst = appendTwo(dst, micro%100)
	return append(dst, "+00"...)
}

func appendTwo(dst []byte, n int) []byte {
	return append(dst, byte('0'+n/10), byte('0'+n%10))
}

var errTime = errors.New("das: not a time of the form 2006-01-02 15:04:05.000000+00")

// ParseTime reads what AppendTime wrote, and nothing else.
func ParseTime(s string) (time.Time, error) {
	if len(s) != timeSize || !strings.HasSuffix(s, "+00") {
		return time.Time{}, fmt.Errorf("%w: %.40q", errTime, s)
	}
	t, err := time.Parse(timeLayout, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %.40q", errTime, s)
	}
	return t.UTC(), nil
}

func appendUint(dst []byte, n uint64) []byte { return strconv.AppendUint(dst, n, 10) }
