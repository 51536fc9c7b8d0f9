// Package webhook posts events to a URL: CloudEvents 1.0 in structured JSON,
// signed as Standard Webhooks describes.
//
//	webhook-id         msg_ and a hash of the event's key: the same at every try
//	webhook-timestamp  seconds since 1970, of this try
//	webhook-signature  v1,BASE64(HMAC-SHA256(secret, id "." timestamp "." body))
//
// A receiver checks the signature, refuses old timestamps, and drops ids that it
// has seen.
//
// Before: internal/deliver. Next: the receiver.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// Options say where to, and how a receiver knows us.
type Options struct {
	URL string
	// SecretFile holds whsec_ and base64, or the secret itself, of at least 16 bytes.
	SecretFile string
	CAFile     string // of whoever signed the receiver's certificate; the system's where empty
}

// Sink posts to one URL.
type Sink struct {
	url    string
	secret secret
	client *http.Client
}

// secret is never printed.
type secret []byte

func (secret) String() string { return "[redacted]" }

// New reads the secret.
func New(o Options) (*Sink, error) {
	key, err := readSecret(o.SecretFile)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: no certificate in %s", o.CAFile)
		}
	}
	return &Sink{url: o.URL, secret: key, client: &http.Client{
		Transport: transport,
		// A redirect would take the event where nobody configured it.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

const minSecret = 16

func readSecret(file string) (secret, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("secret_file: %w", err)
	}
	key := bytes.TrimSpace(b)
	if text, ok := strings.CutPrefix(string(key), "whsec_"); ok {
		if key, err = base64.StdEncoding.DecodeString(text); err != nil {
			return nil, fmt.Errorf("secret_file: what follows whsec_ in %s is not base64", file)
		}
	}
	if len(key) < minSecret {
		return nil, fmt.Errorf("secret_file: the secret in %s has %d bytes, want at least %d", file, len(key), minSecret)
	}
	return key, nil
}

// cloudEvent is CloudEvents 1.0's structured JSON.
type cloudEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            string          `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	Data            json.RawMessage `json:"data"`
}

// Body is what is posted for an event. It is the same at every try.
func Body(e *notifierv1.Event) ([]byte, error) {
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding an event: %w", err)
	}
	return json.Marshal(cloudEvent{
		SpecVersion: "1.0", ID: e.GetIdempotencyKey(),
		Source:  "/weir/" + e.GetSourceType() + "/" + e.GetSourceId(),
		Type:    "weir.audit." + strings.ToLower(strings.TrimPrefix(e.GetKind().String(), "EVENT_KIND_")),
		Subject: e.GetEventId(), Time: e.GetOccurredAt().AsTime().Format(time.RFC3339Nano),
		DataContentType: "application/json", Data: data,
	})
}

// ID is the webhook-id of an event.
func ID(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "msg_" + hex.EncodeToString(sum[:16])
}

// Sign is the webhook-signature of a body.
func Sign(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Deliver posts the event. Any 2xx takes it.
func (s *Sink) Deliver(ctx context.Context, e *notifierv1.Event) error {
	body, err := Body(e)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	id, now := ID(e.GetIdempotencyKey()), strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	req.Header.Set("User-Agent", "weir-notifier")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", now)
	req.Header.Set("Webhook-Signature", Sign(s.secret, id, now, body))
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("posting the event: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	if resp.StatusCode/100 != 2 {
		return errors.New("posting the event: the receiver answers " + resp.Status)
	}
	return nil
}
