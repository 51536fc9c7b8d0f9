package sigv4_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/localaws/internal/sigv4"
)

// The example of AWS's documentation, "Signature Version 4: complete example" (IAM ListUsers).
const (
	exampleSecret        = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	exampleAuthorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, " +
		"SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
)

func example() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", nil)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	r.Header.Set("X-Amz-Date", "20150830T123600Z")
	r.Header.Set("Authorization", exampleAuthorization)
	return r
}

func TestVerify(t *testing.T) {
	signed := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	for _, tc := range []struct {
		name    string
		change  func(*http.Request)
		secret  string
		region  string
		service string
		body    string
		now     time.Time
		want    string // a prefix of the error; empty: taken
	}{
		{name: "AWS's example"},
		{name: "fourteen minutes late", now: signed.Add(14 * time.Minute)},
		{name: "late", now: signed.Add(16 * time.Minute), want: "InvalidSignatureException: Signature expired"},
		{name: "early", now: signed.Add(-16 * time.Minute), want: "InvalidSignatureException: Signature expired"},
		{name: "another secret", secret: "x", want: "InvalidSignatureException: The request signature we calculated"},
		{name: "another body", body: "x", want: "InvalidSignatureException: The request signature we calculated"},
		{name: "another region", region: "eu-west-1", want: "InvalidSignatureException: Credential should be scoped to a valid region"},
		{name: "another service", service: "kms", want: "InvalidSignatureException: Credential should be scoped to correct service: 'kms'"},
		{name: "another header", change: set("Content-Type", "x"), want: "InvalidSignatureException: The request signature"},
		{name: "another query", change: func(r *http.Request) { r.URL.RawQuery += "&a=b" }, want: "InvalidSignatureException: The request signature"},
		{name: "another path", change: func(r *http.Request) { r.URL.Path = "/x" }, want: "InvalidSignatureException: The request signature"},
		{name: "another host", change: func(r *http.Request) { r.Host = "x" }, want: "InvalidSignatureException: The request signature"},
		{name: "another date", change: set("X-Amz-Date", "20150831T123600Z"), want: "InvalidSignatureException: Date in Credential"},
		{name: "no date", change: set("X-Amz-Date", ""), want: "IncompleteSignatureException: Authorization header requires existence of either a 'X-Amz-Date'"},
		{name: "an unknown key", change: edit("AKIDEXAMPLE", "AKIDOTHER"), want: "UnrecognizedClientException"},
		{name: "another algorithm", change: edit("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), want: "IncompleteSignatureException"},
		{name: "another terminator", change: edit("aws4_request", "aws5"), want: "InvalidSignatureException: Credential should be scoped with a valid terminator"},
		{name: "the host unsigned", change: edit("content-type;host;", "content-type;"), want: "InvalidSignatureException: 'Host' must be"},
		{name: "a short scope", change: edit("/20150830/us-east-1/iam/aws4_request", "/x"), want: "IncompleteSignatureException: Credential must have"},
		{name: "no signature", change: edit("Signature=", "Sig="), want: "IncompleteSignatureException: Authorization header requires 'Signature'"},
		{name: "nothing", change: set("Authorization", ""), want: "MissingAuthenticationTokenException: Missing Authentication Token"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := example()
			if tc.change != nil {
				tc.change(r)
			}
			v := sigv4.Verifier{Secrets: map[string]string{"AKIDEXAMPLE": or(tc.secret, exampleSecret)}, Region: or(tc.region, "us-east-1")}
			now := tc.now
			if now.IsZero() {
				now = signed
			}
			a, err := sigv4.Parse(r.Header)
			if err == nil {
				err = v.Verify(r, []byte(tc.body), a, or(tc.service, "iam"), now)
			}
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("Verify = %v, want nil", err)
			case tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)):
				t.Errorf("Verify = %v, want %s…", err, tc.want)
			}
		})
	}
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func set(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func edit(from, to string) func(*http.Request) {
	return set("Authorization", strings.Replace(exampleAuthorization, from, to, 1))
}

// FuzzParse: no header makes it panic, and what it takes is complete.
func FuzzParse(f *testing.F) {
	f.Add(exampleAuthorization)
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e/f,SignedHeaders=,Signature==")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := sigv4.Parse(http.Header{"Authorization": {text}, "X-Amz-Date": {"20150830T123600Z"}})
		if err == nil && (a.Signature == "" || len(a.SignedHeaders) == 0) {
			t.Fatalf("Parse(%q) = %+v, want an error", text, a)
		}
	})
}
