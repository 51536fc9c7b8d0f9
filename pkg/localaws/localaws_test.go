package localaws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/localaws"
	"github.com/weir-das/weir/pkg/localaws/inject"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// unverified is a header that names somebody, signed with nothing: enough when no credentials are configured.
const unverified = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=00"

// serve answers on loopback until the test ends.
func serve(t testing.TB, opt localaws.Options) (srv *localaws.Server, url string) {
	t.Helper()
	srv, err := localaws.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, lis) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
	})
	return srv, "http://" + lis.Addr().String()
}

// request is a call as an SDK makes it, apart from its signature.
func request(t testing.TB, url, target, content string, body []byte) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", content)
	r.Header.Set("X-Amz-Target", target)
	r.Header.Set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))
	r.Header.Set("Authorization", unverified)
	return r
}

func do(t testing.TB, r *http.Request) (*http.Response, []byte) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

const (
	contentJSON = "application/x-amz-json-1.1"
	contentCBOR = "application/x-amz-cbor-1.1"
)

// call makes a JSON call that must succeed.
func call(t testing.TB, url, target, body string, args ...any) map[string]any {
	t.Helper()
	resp, got := do(t, request(t, url, target, contentJSON, fmt.Appendf(nil, body, args...)))
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s = %s %s, want 200", target, resp.Status, got)
	}
	fields := map[string]any{}
	if len(got) > 0 {
		if err := json.Unmarshal(got, &fields); err != nil {
			t.Fatalf("%s answers %s: %v", target, got, err)
		}
	}
	return fields
}

func TestProtocol(t *testing.T) {
	_, url := serve(t, localaws.Options{})
	const list = "Kinesis_20131202.ListStreams"
	for _, tc := range []struct {
		name, target, body string
		change             func(*http.Request)
		status             int
		want               string // the error's type, or what the body contains
	}{
		{name: "a call", target: list, body: `{}`, status: 200, want: `"StreamNames":[]`},
		{name: "KMS on the same port", target: "TrentService.ListKeys", body: `{}`, status: 200, want: `"Keys":[]`},
		{name: "any path", target: list, body: `{}`, change: func(r *http.Request) { r.URL.Path = "/any" }, status: 200, want: "StreamNames"},
		{name: "a charset", target: list, body: `{}`, change: header("Content-Type", contentJSON+"; charset=utf-8"), status: 200, want: "StreamNames"},
		{name: "no operation", target: "Kinesis_20131202.Nothing", body: `{}`, status: 400, want: `"__type":"UnknownOperationException"`},
		{name: "no service", target: "DynamoDB_20120810.ListTables", body: `{}`, status: 400, want: `"__type":"UnknownOperationException"`},
		{name: "Kinesis's operation of KMS", target: "TrentService.ListStreams", body: `{}`, status: 400, want: `"__type":"UnknownOperationException"`},
		{name: "no target", body: `{}`, status: 400, want: `"__type":"UnknownOperationException"`},
		{name: "no body", target: list, status: 400, want: `"__type":"SerializationException"`},
		{name: "no body, no operation", target: "x", status: 400, want: `"__type":"UnknownOperationException"`},
		{name: "no JSON", target: list, body: `{`, status: 400, want: `"__type":"SerializationException"`},
		{name: "no object", target: list, body: `1`, status: 400, want: `"__type":"SerializationException"`},
		{name: "an unsigned call", target: list, body: `{}`, change: header("Authorization", ""), status: 400, want: `"__type":"MissingAuthenticationTokenException"`},
		{name: "half a signature", target: list, body: `{}`, change: header("Authorization", "AWS4-HMAC-SHA256 Credential=x"), status: 400, want: `"__type":"IncompleteSignatureException"`},
		{name: "a wrong type", target: list, body: `{"Limit":"1"}`, status: 400, want: `"Message":"class java.lang.String can not be converted to an Integer"`},
		{name: "GET", target: list, change: func(r *http.Request) { r.Method = http.MethodGet }, status: 403, want: "<AccessDeniedException>"},
		{name: "a browser's form", body: `a=b`, change: header("Content-Type", "text/plain"), status: 403, want: "<AccessDeniedException>"},
		{name: "another content", target: list, body: `{}`, change: header("Content-Type", "text/plain"), status: 404, want: "<UnknownOperationException/>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request(t, url, tc.target, contentJSON, []byte(tc.body))
			if tc.change != nil {
				tc.change(r)
			}
			resp, body := do(t, r)
			if resp.StatusCode != tc.status || !strings.Contains(string(body), tc.want) {
				t.Errorf("got %d %s, want %d …%s…", resp.StatusCode, body, tc.status, tc.want)
			}
			if len(resp.Header.Get("X-Amzn-Requestid")) != 36 {
				t.Errorf("request id %q, want a UUID", resp.Header.Get("X-Amzn-Requestid"))
			}
			if resp.StatusCode == 400 && !strings.Contains(string(body), resp.Header.Get("X-Amzn-Errortype")) {
				t.Errorf("error type %q is not the body's, %s", resp.Header.Get("X-Amzn-Errortype"), body)
			}
		})
	}
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func TestBodyLimit(t *testing.T) {
	_, url := serve(t, localaws.Options{})
	resp, _ := do(t, request(t, url, "Kinesis_20131202.ListStreams", contentJSON, make([]byte, 15<<20+1)))
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of more than 15 MiB = %s, want 413", resp.Status)
	}
}

// TestCBOR makes a record's round trip as the Java SDK does.
func TestCBOR(t *testing.T) {
	_, url := serve(t, localaws.Options{})
	callCBOR := func(op string, in any, out any) {
		t.Helper()
		body, err := cbor.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		resp, got := do(t, request(t, url, "Kinesis_20131202."+op, contentCBOR, body))
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != contentCBOR {
			t.Fatalf("%s = %s, %s, %q", op, resp.Status, resp.Header.Get("Content-Type"), got)
		}
		if out != nil {
			if err := cbor.Unmarshal(got, out); err != nil {
				t.Fatalf("%s answers %x: %v", op, got, err)
			}
		}
	}
	type m = map[string]any
	callCBOR("CreateStream", m{"StreamName": "s", "ShardCount": 1}, nil)
	data := []byte{0, 1, 254, 255}
	before := time.Now()
	callCBOR("PutRecords", m{"StreamName": "s", "Records": []m{{"PartitionKey": "k", "Data": data}}}, nil)
	var it struct{ ShardIterator string }
	callCBOR("GetShardIterator", m{"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": "AT_TIMESTAMP",
		"Timestamp": cbor.Tag{Number: 1, Content: before.Add(-time.Second).UnixMilli()}}, &it)
	var got struct {
		Records []struct {
			Data                        []byte
			PartitionKey                string
			ApproximateArrivalTimestamp cbor.RawTag
		}
	}
	callCBOR("GetRecords", m{"ShardIterator": it.ShardIterator}, &got)
	if len(got.Records) != 1 || !bytes.Equal(got.Records[0].Data, data) || got.Records[0].PartitionKey != "k" {
		t.Fatalf("GetRecords = %+v, want the record", got)
	}
	var ms int64
	if err := cbor.Unmarshal(got.Records[0].ApproximateArrivalTimestamp.Content, &ms); err != nil || ms < before.UnixMilli() || ms > time.Now().UnixMilli() {
		t.Errorf("it arrived at %d ms, %v; want now", ms, err)
	}
	resp, body := do(t, request(t, url, "Kinesis_20131202.ListStreams", contentCBOR, []byte{0xff}))
	var e struct {
		Type string `cbor:"__type"`
	}
	if err := cbor.Unmarshal(body, &e); err != nil || resp.StatusCode != 400 || e.Type != "SerializationException" {
		t.Errorf("malformed CBOR = %s %+v, %v, want SerializationException", resp.Status, e, err)
	}
}

// TestStreamKeyOfKMS: a stream's key is one of the KMS behind the same endpoint.
func TestStreamKeyOfKMS(t *testing.T) {
	srv, url := serve(t, localaws.Options{})
	call(t, url, "Kinesis_20131202.CreateStream", `{"StreamName":"s","ShardCount":1}`)
	const start = "Kinesis_20131202.StartStreamEncryption"
	resp, body := do(t, request(t, url, start, contentJSON, []byte(`{"StreamName":"s","EncryptionType":"KMS","KeyId":"alias/none"}`)))
	if resp.StatusCode != 400 || !strings.Contains(string(body), `"__type":"KMSNotFoundException"`) {
		t.Errorf("encryption with no key = %s %s, want KMSNotFoundException", resp.Status, body)
	}
	key := call(t, url, "TrentService.CreateKey", `{}`)["KeyMetadata"].(map[string]any)["KeyId"].(string)
	call(t, url, start, `{"StreamName":"s","EncryptionType":"KMS","KeyId":%q}`, key)
	call(t, url, "Kinesis_20131202.PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"aGk="}`)
	if err := srv.KMS().Disable(key); err != nil {
		t.Fatal(err)
	}
	resp, body = do(t, request(t, url, "Kinesis_20131202.PutRecord", contentJSON, []byte(`{"StreamName":"s","PartitionKey":"k","Data":"aGk="}`)))
	if resp.StatusCode != 400 || !strings.Contains(string(body), `"__type":"KMSDisabledException"`) {
		t.Errorf("a put with the key disabled = %s %s, want KMSDisabledException", resp.Status, body)
	}
	call(t, url, "Kinesis_20131202.CreateStream", `{"StreamName":"managed","ShardCount":1}`)
	call(t, url, start, `{"StreamName":"managed","EncryptionType":"KMS","KeyId":"alias/aws/kinesis"}`)
}

// TestServeEnds: within its limit, also while a client is kept waiting.
func TestServeEnds(t *testing.T) {
	srv, err := localaws.New(localaws.Options{})
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv.Kinesis().Fail(inject.Fault{Delay: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, lis) }()
	answered := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(request(t, "http://"+lis.Addr().String(), "Kinesis_20131202.ListStreams", contentJSON, []byte("{}")))
		if err == nil {
			err = resp.Body.Close()
		}
		answered <- err
	}()
	time.Sleep(50 * time.Millisecond) // the request is under way; if it is not yet, it is refused, and that is as well
	cancel()
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Serve has not ended after 10 s")
	}
	<-answered
	http.DefaultClient.CloseIdleConnections()
}

func TestNewRefuses(t *testing.T) {
	for _, opt := range []localaws.Options{{MaxBytes: -1}, {ShardLimit: -1}, {StateDelay: -1}, {KMSStateFile: "/dev/null/x"}} {
		if _, err := localaws.New(opt); err == nil {
			t.Errorf("New(%+v) = nil, want an error", opt)
		}
	}
}

// FuzzRequest: no request makes the endpoint panic, and whatever it refuses has a type.
func FuzzRequest(f *testing.F) {
	srv, err := localaws.New(localaws.Options{MaxBytes: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("Kinesis_20131202.CreateStream", false, []byte(`{"StreamName":"s","ShardCount":1}`))
	f.Add("Kinesis_20131202.PutRecords", false, []byte(`{"StreamName":"s","Records":[{"Data":"aGk=","PartitionKey":"k","ExplicitHashKey":"7"}]}`))
	f.Add("Kinesis_20131202.ListShards", false, []byte(`{"NextToken":"eyJTdHJlYW0iOiJzIn0="}`))
	f.Add("Kinesis_20131202.GetShardIterator", true, []byte("\xbf\x6aStreamName\x61s\xff"))
	f.Add("TrentService.Decrypt", false, []byte(`{"CiphertextBlob":"AAAA","EncryptionContext":{"a":"b"}}`))
	f.Fuzz(func(t *testing.T, target string, binary bool, body []byte) {
		content := contentJSON
		if binary {
			content = contentCBOR
		}
		r := request(t, "http://localhost/", "x", content, body)
		r.Header["X-Amz-Target"] = []string{target}
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		switch {
		case w.Code == http.StatusOK || w.Code == http.StatusRequestEntityTooLarge:
		case w.Code >= 500:
			t.Fatalf("%s %q = %d %s, want no failure of the server", target, body, w.Code, w.Body)
		case w.Header().Get("X-Amzn-Errortype") == "":
			t.Fatalf("%s %q = %d %s, want an error with a type", target, body, w.Code, w.Body)
		}
	})
}
