package kinesis_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/localaws/internal/wire"
	"github.com/weir-das/weir/pkg/localaws/kinesis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A client calls a service as the endpoint does, with JSON.
type client struct {
	t *testing.T
	*kinesis.Service
}

func newClient(t *testing.T, opt kinesis.Options) client {
	t.Helper()
	opt.Region, opt.AccountID = "us-east-1", "000000000000"
	if opt.MaxBytes == 0 {
		opt.MaxBytes = 1 << 20
	}
	if opt.ShardLimit == 0 {
		opt.ShardLimit = 10
	}
	return client{t, kinesis.New(opt)}
}

// An answer is a call's result: the fields, or the error.
type answer struct {
	t      *testing.T
	call   string
	fields map[string]any
	err    *wire.Error
}

func (c client) call(op, body string, args ...any) answer {
	c.t.Helper()
	text := fmt.Appendf(nil, body, args...)
	a := answer{t: c.t, call: fmt.Sprintf("%s %.300s", op, text)}
	if !c.Knows(op) {
		c.t.Fatalf("no operation %s", op)
	}
	v, err := wire.ParseJSON(text)
	if err != nil {
		c.t.Fatalf("%s: %v", a.call, err)
	}
	out := wire.NewWriter(nil, false)
	if err := c.Call(c.t.Context(), op, v, false, out); err != nil {
		if !errors.As(err, &a.err) {
			c.t.Fatalf("%s: an error without a type: %v", a.call, err)
		}
		return a
	}
	if len(out.Bytes()) > 0 {
		if err := json.Unmarshal(out.Bytes(), &a.fields); err != nil {
			c.t.Fatalf("%s answers %s: %v", a.call, out.Bytes(), err)
		}
	}
	return a
}

// ok fails the test if the call was refused.
func (a answer) ok() answer {
	a.t.Helper()
	if a.err != nil {
		a.t.Fatalf("%s = %v, want no error", a.call, a.err)
	}
	return a
}

// refused fails the test unless the call was refused so, the message beginning or containing what is given.
func (a answer) refused(code, message string) {
	a.t.Helper()
	if a.err == nil || a.err.Code != code || !strings.Contains(a.err.Message, message) {
		a.t.Errorf("%s = %v, want %s …%s…", a.call, a.err, code, message)
	}
}

// get walks into the answer: keys of maps, indexes of lists.
func (a answer) get(path ...any) any {
	a.t.Helper()
	var v any = a.ok().fields
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				a.t.Fatalf("%s has no %v in %v", a.call, path, a.fields)
			}
			v = l[p]
		}
	}
	return v
}

func (a answer) str(path ...any) string {
	a.t.Helper()
	s, ok := a.get(path...).(string)
	if !ok {
		a.t.Fatalf("%s: %v = %v, want a string", a.call, path, a.get(path...))
	}
	return s
}

func (a answer) int(path ...any) int {
	a.t.Helper()
	f, ok := a.get(path...).(float64)
	if !ok {
		a.t.Fatalf("%s: %v = %v, want a number", a.call, path, a.get(path...))
	}
	return int(f)
}

func (a answer) len(path ...any) int {
	a.t.Helper()
	l, _ := a.get(path...).([]any)
	return len(l)
}

// put puts one record and returns its sequence number.
func (c client) put(stream, key, data string) string {
	c.t.Helper()
	return c.call("PutRecord", `{"StreamName":%q,"PartitionKey":%q,"Data":"%s"}`, stream, key, b64(data)).str("SequenceNumber")
}

// iterator is a shard iterator of shard 0.
func (c client) iterator(stream, kind string) string {
	c.t.Helper()
	return c.call("GetShardIterator", `{"StreamName":%q,"ShardId":"shardId-000000000000","ShardIteratorType":%q}`, stream, kind).str("ShardIterator")
}

// read is the data of the records an iterator gives.
func (c client) read(iterator string) string {
	c.t.Helper()
	return data(c.call("GetRecords", `{"ShardIterator":%q}`, iterator))
}

func data(a answer) string {
	a.t.Helper()
	var all []string
	for i := range a.len("Records") {
		b, err := base64.StdEncoding.DecodeString(a.str("Records", i, "Data"))
		if err != nil {
			a.t.Fatal(err)
		}
		all = append(all, string(b))
	}
	return strings.Join(all, " ")
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func seconds(d time.Time) string { return fmt.Sprintf("%.3f", float64(d.UnixMilli())/1000) }
