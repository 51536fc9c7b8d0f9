// Package sigv4 checks the signature AWS clients put on a request (Signature Version 4, in the Authorization header).
//
// It reads the header also when no credentials are configured, because a request without one is refused in any case.
// Presigned query strings are not taken.
//
// Before: pkg/localaws read the request. Next: pkg/localaws carries it out.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	layout    = "20060102T150405Z"
	// maxSkew is how far a client's clock may be off.
	maxSkew = 15 * time.Minute
)

// An Authorization is what the header says.
type Authorization struct {
	AccessKey                   string
	Date, Region, Service, Last string // the credential's scope
	SignedHeaders               []string
	Signature                   string
}

// Parse reads the Authorization header of a request.
func Parse(h http.Header) (Authorization, error) {
	var a Authorization
	text := h.Get("Authorization")
	if text == "" {
		return a, wire.Errorf("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	fields := map[string]string{}
	_, rest, _ := strings.Cut(text, " ")
	for part := range strings.FieldsFuncSeq(rest, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, value, _ := strings.Cut(part, "=")
		fields[name] = value
	}
	var missing strings.Builder
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if fields[name] == "" {
			missing.WriteString("Authorization header requires '" + name + "' parameter. ")
		}
	}
	if h.Get("X-Amz-Date") == "" && h.Get("Date") == "" {
		missing.WriteString("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ")
	}
	if missing.Len() > 0 {
		return a, wire.Errorf("IncompleteSignatureException", "%sAuthorization=%s", missing.String(), text[:min(len(text), 1024)])
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) < 5 {
		return a, wire.Errorf("IncompleteSignatureException", "Credential must have at least 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", fields["Credential"])
	}
	n := len(scope) - 4 // an access key may itself contain slashes
	a = Authorization{
		AccessKey: strings.Join(scope[:n], "/"),
		Date:      scope[n], Region: scope[n+1], Service: scope[n+2], Last: scope[n+3],
		SignedHeaders: strings.Split(fields["SignedHeaders"], ";"),
		Signature:     fields["Signature"],
	}
	return a, nil
}

// A Verifier knows who may call.
type Verifier struct {
	Secrets map[string]string // by access key
	Region  string
}

// Verify checks that a request with this body was signed for service with one of the secrets, about now.
func (v Verifier) Verify(r *http.Request, body []byte, a Authorization, service string, now time.Time) error {
	secret, ok := v.Secrets[a.AccessKey]
	if !ok {
		return wire.Errorf("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), algorithm+" ") {
		return wire.Errorf("IncompleteSignatureException", "Unsupported AWS 'algorithm', want %s", algorithm)
	}
	switch {
	case a.Region != v.Region:
		return wire.Errorf("InvalidSignatureException", "Credential should be scoped to a valid region.")
	case a.Service != service:
		return wire.Errorf("InvalidSignatureException", "Credential should be scoped to correct service: '%s'.", service)
	case a.Last != "aws4_request":
		return wire.Errorf("InvalidSignatureException", "Credential should be scoped with a valid terminator: 'aws4_request', not '%s'.", a.Last)
	}
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse(layout, stamp)
	if err != nil || !strings.HasPrefix(stamp, a.Date) {
		return wire.Errorf("InvalidSignatureException", "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.")
	}
	if now.Sub(at) > maxSkew || at.Sub(now) > maxSkew {
		return wire.Errorf("InvalidSignatureException", "Signature expired: %s is not within %d minutes of %s.", stamp, int(maxSkew.Minutes()), now.UTC().Format(layout))
	}
	if !slices.Contains(a.SignedHeaders, "host") {
		return wire.Errorf("InvalidSignatureException", "'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	want := sign(secret, a, stamp, canonical(r, body, a.SignedHeaders))
	if !hmac.Equal([]byte(want), []byte(a.Signature)) {
		return wire.Errorf("InvalidSignatureException", "The request signature we calculated does not match the signature you provided. "+
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return nil
}

// canonical is the request in the form both sides hash.
func canonical(r *http.Request, body []byte, signed []string) string {
	var b strings.Builder
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	b.WriteString(r.Method + "\n" + escape(path, "/") + "\n")
	var pairs []string
	for name, values := range r.URL.Query() {
		for _, value := range values {
			pairs = append(pairs, escape(name, "")+"="+escape(value, ""))
		}
	}
	slices.Sort(pairs)
	b.WriteString(strings.Join(pairs, "&") + "\n")
	for _, name := range signed {
		b.WriteString(name + ":")
		if name == "host" {
			b.WriteString(r.Host)
		} else if name == "content-length" {
			b.WriteString(r.Header.Get(name))
		} else {
			for i, value := range r.Header.Values(name) {
				if i > 0 {
					b.WriteByte(',')
				}
				b.WriteString(strings.Join(strings.Fields(value), " "))
			}
		}
		b.WriteByte('\n')
	}
	sum := sha256.Sum256(body)
	b.WriteString("\n" + strings.Join(signed, ";") + "\n" + hex.EncodeToString(sum[:]))
	return b.String()
}

func sign(secret string, a Authorization, stamp, request string) string {
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	sum := sha256.Sum256([]byte(request))
	scope := a.Date + "/" + a.Region + "/" + a.Service + "/" + a.Last
	key := mac(mac(mac(mac([]byte("AWS4"+secret), a.Date), a.Region), a.Service), a.Last)
	return hex.EncodeToString(mac(key, algorithm+"\n"+stamp+"\n"+scope+"\n"+hex.EncodeToString(sum[:])))
}

// escape percent-encodes all but RFC 3986's unreserved characters and those of keep.
func escape(s, keep string) string {
	const upper = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~"+keep, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', upper[c>>4], upper[c&15]})
		}
	}
	return b.String()
}
