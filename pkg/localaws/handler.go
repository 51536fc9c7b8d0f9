package localaws

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weir-das/weir/pkg/localaws/internal/sigv4"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
	"github.com/weir-das/weir/pkg/localaws/sns"
)

const (
	contentJSON = "application/x-amz-json-1.1"
	contentCBOR = "application/x-amz-cbor-1.1"
	contentForm = "application/x-www-form-urlencoded" // the Query protocol, SNS's

	// maxBody holds the largest PutRecords, 10 MiB of data and keys, in base64 with room for 500 records' field names.
	maxBody = 15 << 20

	// maxCalls is how many requests are held in memory at once; more wait. With maxBody it bounds what clients can take.
	maxCalls = 64

	// maxKept is the largest buffer that is used again.
	maxKept = 4 << 20
)

// A service is Kinesis or KMS: a set of operations.
type service interface {
	Knows(op string) bool
	Call(ctx context.Context, op string, body wire.Value, cbor bool, out *wire.Writer) error
}

// ServeHTTP answers one call of either service.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-r.Context().Done():
		return
	}
	setIDs(w.Header())
	buf := buffers.Get().(*buffer)
	defer buf.put()
	if err := buf.read(w, r); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		} else {
			w.WriteHeader(http.StatusBadRequest) // the client hung up: nobody reads this
		}
		return
	}
	content, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Method == http.MethodPost && content == contentForm {
		s.serveQuery(w, r, buf.in.Bytes())
		return
	}
	if r.Method != http.MethodPost || content != contentJSON && content != contentCBOR {
		s.refuseForeign(w, r)
		return
	}
	cbor := content == contentCBOR
	out := wire.NewWriter(buf.out, cbor)
	status := http.StatusOK
	if err := s.answer(r, buf.in.Bytes(), cbor, out); err != nil {
		e := asError(err)
		out.Reset()
		out.Error(e)
		status = e.Status
		w.Header().Set("X-Amzn-Errortype", e.Code)
	}
	h := w.Header()
	h.Set("Content-Type", content)
	h.Set("Content-Length", strconv.Itoa(len(out.Bytes())))
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // an error here is the client's hanging up
	buf.out = out.Bytes()
}

// asError is what the client is told.
func asError(err error) *wire.Error {
	var e *wire.Error
	if errors.As(err, &e) {
		return e
	}
	return wire.Fault("InternalFailure", err.Error())
}

// answer does what the request asks for, in AWS's order of refusals: the body's syntax, the operation's name, who is
// calling, the input.
func (s *Server) answer(r *http.Request, body []byte, cbor bool, out *wire.Writer) error {
	svc, name, op := s.target(r.Header.Get("X-Amz-Target"))
	known := svc != nil && svc.Knows(op)
	if len(body) == 0 && !known {
		return &wire.Error{Code: "UnknownOperationException", Status: http.StatusBadRequest}
	}
	parse := wire.ParseJSON
	if cbor {
		parse = wire.ParseCBOR
	}
	v, err := parse(body)
	if err != nil || v.Kind() != wire.Map && v.Kind() != wire.List {
		return &wire.Error{Code: "SerializationException", Status: http.StatusBadRequest}
	}
	if !known {
		return &wire.Error{Code: "UnknownOperationException", Status: http.StatusBadRequest}
	}
	auth, err := sigv4.Parse(r.Header)
	if err != nil {
		return err
	}
	if len(s.verifier.Secrets) > 0 {
		if err := s.verifier.Verify(r, body, auth, name, time.Now()); err != nil {
			return err
		}
	}
	return svc.Call(r.Context(), op, v, cbor, out)
}

// target is the service and operation a request is for, and the name the service signs by.
func (s *Server) target(text string) (svc service, name, op string) {
	prefix, op, _ := strings.Cut(text, ".")
	switch prefix {
	case "Kinesis_20131202":
		return s.kinesis, "kinesis", op
	case "TrentService":
		return s.kms, "kms", op
	case "AWSEvents":
		return s.events, "events", op
	}
	return nil, "", op
}

// serveQuery answers one call of SNS.
func (s *Server) serveQuery(w http.ResponseWriter, r *http.Request, body []byte) {
	answer, err := s.answerQuery(r, body)
	status := http.StatusOK
	if err != nil {
		e := asError(err)
		answer, status = sns.Failure(e), e.Status
	}
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.WriteHeader(status)
	_, _ = w.Write(answer) // an error here is the client's hanging up
}

func (s *Server) answerQuery(r *http.Request, body []byte) ([]byte, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, &wire.Error{Code: "MalformedQueryString", Message: "The query string contains a syntax error.", Status: http.StatusBadRequest}
	}
	auth, err := sigv4.Parse(r.Header)
	if err != nil {
		return nil, err
	}
	if len(s.verifier.Secrets) > 0 {
		if err := s.verifier.Verify(r, body, auth, "sns", time.Now()); err != nil {
			return nil, err
		}
	}
	return s.topics.Call(r.Context(), form)
}

// refuseForeign answers what no AWS SDK sends: a browser, a health check, another protocol.
func (s *Server) refuseForeign(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/xml")
	if _, _, op := s.target(r.Header.Get("X-Amz-Target")); op != "" && r.Method == http.MethodPost {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<UnknownOperationException/>\n")
		return
	}
	w.WriteHeader(http.StatusForbidden)
	_, _ = io.WriteString(w, "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n</AccessDeniedException>\n")
}

// setIDs gives an answer the ids AWS gives it; support tickets quote them, and SDKs log them.
func setIDs(h http.Header) {
	var id [56]byte
	rand.Read(id[:])
	h.Set("X-Amzn-Requestid", formatUUID([16]byte(id[:16])))
	h.Set("X-Amz-Id-2", base64.StdEncoding.EncodeToString(id[16:]))
}

func formatUUID(b [16]byte) string {
	const hex = "0123456789abcdef"
	out := make([]byte, 0, 36)
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			out = append(out, '-')
		}
		out = append(out, hex[c>>4], hex[c&15])
	}
	return string(out)
}

// A buffer holds a request's body and its answer. Values alias the body until they are carried out; nothing does after.
type buffer struct {
	in  bytes.Buffer
	out []byte
}

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func (b *buffer) read(w http.ResponseWriter, r *http.Request) error {
	b.in.Reset()
	if n := r.ContentLength; n > 0 && n <= maxBody {
		b.in.Grow(int(n) + bytes.MinRead)
	}
	_, err := b.in.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	return err
}

// put gives the buffer back unless it has grown beyond what is usual.
func (b *buffer) put() {
	if b.in.Cap() <= maxKept && cap(b.out) <= maxKept {
		buffers.Put(b)
	}
}
