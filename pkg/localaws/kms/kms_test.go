package kms_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-das/weir/pkg/localaws/inject"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
	"github.com/weir-das/weir/pkg/localaws/kms"
)

// A client calls a service as the endpoint does.
type client struct {
	t *testing.T
	*kms.Service
}

func newClient(t *testing.T, file string) client {
	t.Helper()
	s, err := kms.New(kms.Options{Region: "us-east-1", AccountID: "000000000000", StateFile: file})
	if err != nil {
		t.Fatal(err)
	}
	return client{t, s}
}

type answer map[string]any

func (a answer) str(key string) string { s, _ := a[key].(string); return s }

func (a answer) in(key string) answer { m, _ := a[key].(map[string]any); return m }

func (a answer) list(key string) []any { l, _ := a[key].([]any); return l }

// try makes a call. On refusal the answer is nil.
func (c client) try(op, body string, args ...any) (answer, *wire.Error) {
	c.t.Helper()
	if !c.Knows(op) {
		c.t.Fatalf("no operation %s", op)
	}
	v, err := wire.ParseJSON(fmt.Appendf(nil, body, args...))
	if err != nil {
		c.t.Fatal(err)
	}
	out := wire.NewWriter(nil, false)
	if err := c.Call(c.t.Context(), op, v, false, out); err != nil {
		var e *wire.Error
		if !errors.As(err, &e) {
			c.t.Fatalf("%s: an error without a type: %v", op, err)
		}
		return nil, e
	}
	a := answer{}
	if len(out.Bytes()) > 0 {
		if err := json.Unmarshal(out.Bytes(), &a); err != nil {
			c.t.Fatalf("%s answers %s: %v", op, out.Bytes(), err)
		}
	}
	return a, nil
}

func (c client) call(op, body string, args ...any) answer {
	c.t.Helper()
	a, err := c.try(op, body, args...)
	if err != nil {
		c.t.Fatalf("%s"+body+" = %v, want no error", append(append([]any{op}, args...), err)...)
	}
	return a
}

func (c client) refused(code, message, op, body string, args ...any) {
	c.t.Helper()
	_, err := c.try(op, body, args...)
	if err == nil || err.Code != code || !strings.Contains(err.Message, message) {
		c.t.Errorf("%s = %v, want %s …%s…", op+fmt.Sprintf(body, args...), err, code, message)
	}
}

// key makes a key and returns its id.
func (c client) key() string {
	c.t.Helper()
	return c.call("CreateKey", `{}`).in("KeyMetadata").str("KeyId")
}

func TestKeyHasFourNames(t *testing.T) {
	c := newClient(t, "")
	id := c.key()
	arn := "arn:aws:kms:us-east-1:000000000000:key/" + id
	c.call("CreateAlias", `{"AliasName":"alias/das","TargetKeyId":%q}`, arn)
	for _, ref := range []string{id, arn, "alias/das", "arn:aws:kms:us-east-1:000000000000:alias/das"} {
		if got := c.call("DescribeKey", `{"KeyId":%q}`, ref).in("KeyMetadata").str("Arn"); got != arn {
			t.Errorf("DescribeKey(%s) = %s, want %s", ref, got, arn)
		}
	}
	const no = "00000000-0000-4000-8000-000000000000"
	for ref, want := range map[string]string{
		no:         "NotFoundException: Key 'arn:aws:kms:us-east-1:000000000000:key/" + no + "' does not exist",
		"x":        "NotFoundException: Invalid keyId 'x'",
		"alias/no": "NotFoundException: Alias arn:aws:kms:us-east-1:000000000000:alias/no is not found.",
		"arn:x":    "NotFoundException: Invalid arn arn:x",
		"arn:aws:kms:us-east-1:111111111111:key/" + id: "AccessDeniedException: You are not authorized to perform this operation on resource arn:aws:kms:us-east-1:111111111111:key/" +
			id + ": it does not exist in this account, or its policy does not allow you access.",
		"arn:aws:kms:eu-west-1:000000000000:key/" + id: "NotFoundException: Invalid arn eu-west-1",
	} {
		_, err := c.try("DescribeKey", `{"KeyId":%q}`, ref)
		if err == nil || err.Error() != want {
			t.Errorf("DescribeKey(%s) = %v, want %s", ref, err, want)
		}
	}
	c.refused("NotFoundException", "Invalid keyId 'alias/das'", "DisableKey", `{"KeyId":"alias/das"}`) // administration takes no alias
}

func TestEncryptionContext(t *testing.T) {
	c := newClient(t, "")
	id := c.key()
	dk := c.call("GenerateDataKey", `{"KeyId":%q,"KeySpec":"AES_256","EncryptionContext":{"aws:rds:dbc-id":"cluster-A","b":"c"}}`, id)
	blob := dk.str("CiphertextBlob")
	if n := base64.StdEncoding.DecodedLen(len(blob)) - strings.Count(blob, "="); n != 184 {
		t.Errorf("a sealed data key has %d bytes, want AWS's 184", n)
	}
	got := c.call("Decrypt", `{"CiphertextBlob":%q,"EncryptionContext":{"b":"c","aws:rds:dbc-id":"cluster-A"}}`, blob)
	if got.str("Plaintext") != dk.str("Plaintext") || got.str("KeyId") != "arn:aws:kms:us-east-1:000000000000:key/"+id {
		t.Errorf("Decrypt = %v, want the data key of %s", got, id)
	}
	for _, context := range []string{`{}`, `{"aws:rds:dbc-id":"cluster-A"}`, `{"aws:rds:dbc-id":"cluster-B","b":"c"}`,
		`{"aws:rds:dbc-id":"cluster-A","b":"c","d":"e"}`, `{"aws:rds:dbc-id":"cluster-Ab","":"c"}`, `{"aws:rds:dbc-idc":"luster-A","b":"c"}`} {
		c.refused("InvalidCiphertextException", "", "Decrypt", `{"CiphertextBlob":%q,"EncryptionContext":%s}`, blob, context)
	}
}

// TestBlobIsWhole: a blob with any bit changed does not open, and says nothing about why.
func TestBlobIsWhole(t *testing.T) {
	c := newClient(t, "")
	id := c.key()
	blob, err := base64.StdEncoding.DecodeString(c.call("Encrypt", `{"KeyId":%q,"Plaintext":"aGVsbG8="}`, id).str("CiphertextBlob"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range blob {
		blob[i] ^= 0x10
		_, err := c.try("Decrypt", `{"CiphertextBlob":%q}`, base64.StdEncoding.EncodeToString(blob))
		want := "InvalidCiphertextException"
		if i >= 5 && i < 21 { // the key's id: a key that is not there
			want = "AccessDeniedException"
		}
		if err == nil || err.Code != want {
			t.Errorf("Decrypt with byte %d changed = %v, want %s", i, err, want)
		}
		blob[i] ^= 0x10
	}
	if got := c.call("Decrypt", `{"CiphertextBlob":%q}`, base64.StdEncoding.EncodeToString(blob)).str("Plaintext"); got != "aGVsbG8=" {
		t.Errorf("the blob as it was = %s, want aGVsbG8=", got)
	}
}

func TestDecryptRefused(t *testing.T) {
	c := newClient(t, "")
	a, b := c.key(), c.key()
	blob := c.call("Encrypt", `{"KeyId":%q,"Plaintext":"aGVsbG8="}`, a).str("CiphertextBlob")
	c.refused("IncorrectKeyException", "The key ID in the request", "Decrypt", `{"CiphertextBlob":%q,"KeyId":%q}`, blob, b)
	c.refused("InvalidCiphertextException", "", "Decrypt", `{"CiphertextBlob":"aGVsbG8="}`)
	c.refused("ValidationException", "'ciphertextBlob'", "Decrypt", `{"CiphertextBlob":""}`)
	c.refused("InvalidKeyUsageException", "", "Decrypt", `{"CiphertextBlob":%q,"EncryptionAlgorithm":"RSAES_OAEP_SHA_1"}`, blob)
	c.refused("DryRunOperationException", "would have succeeded", "Decrypt", `{"CiphertextBlob":%q,"DryRun":true}`, blob)
	c.call("DisableKey", `{"KeyId":%q}`, a)
	c.refused("DisabledException", a+" is disabled.", "Decrypt", `{"CiphertextBlob":%q}`, blob)
	c.refused("DisabledException", "", "GenerateDataKey", `{"KeyId":%q,"NumberOfBytes":8}`, a)
	c.call("EnableKey", `{"KeyId":%q}`, a)
	c.call("Decrypt", `{"CiphertextBlob":%q}`, blob)
	if err := c.Disable(a); err != nil {
		t.Fatal(err)
	}
	c.refused("DisabledException", "", "Decrypt", `{"CiphertextBlob":%q}`, blob)
	if err := c.Enable(a); err != nil {
		t.Fatal(err)
	}
	c.call("Decrypt", `{"CiphertextBlob":%q}`, blob)
	if err := c.Delete(a); err != nil {
		t.Fatal(err)
	}
	c.refused("AccessDeniedException", "does not exist", "Decrypt", `{"CiphertextBlob":%q}`, blob)
	if err := c.Usable(a); err == nil {
		t.Error("Usable(deleted key) = nil, want an error")
	}
	c.Fail(inject.Fault{Operations: []string{"Decrypt"}, Code: "KMSInternalException", Times: 1})
	c.refused("KMSInternalException", "", "Decrypt", `{"CiphertextBlob":%q}`, blob)
}

func TestDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, "")
		id := c.key()
		c.call("CreateAlias", `{"AliasName":"alias/a","TargetKeyId":%q}`, id)
		c.refused("ValidationException", "between 7 and 30", "ScheduleKeyDeletion", `{"KeyId":%q,"PendingWindowInDays":6}`, id)
		c.refused("KMSInvalidStateException", "is not pending deletion", "CancelKeyDeletion", `{"KeyId":%q}`, id)
		if got := c.call("ScheduleKeyDeletion", `{"KeyId":%q,"PendingWindowInDays":7}`, id).str("KeyState"); got != "PendingDeletion" {
			t.Errorf("KeyState = %s, want PendingDeletion", got)
		}
		for _, op := range []string{"EnableKey", "DisableKey", "ScheduleKeyDeletion"} {
			c.refused("KMSInvalidStateException", id+" is pending deletion.", op, `{"KeyId":%q}`, id)
		}
		c.refused("KMSInvalidStateException", "is pending deletion.", "GenerateDataKey", `{"KeyId":%q,"KeySpec":"AES_128"}`, id)
		c.call("CancelKeyDeletion", `{"KeyId":%q}`, id)
		c.refused("DisabledException", "", "GenerateDataKey", `{"KeyId":%q,"KeySpec":"AES_128"}`, id)
		c.call("EnableKey", `{"KeyId":%q}`, id)
		c.call("GenerateDataKey", `{"KeyId":"alias/a","KeySpec":"AES_128"}`)
		c.call("ScheduleKeyDeletion", `{"KeyId":%q,"PendingWindowInDays":7}`, id)
		time.Sleep(7*24*time.Hour + time.Second)
		c.refused("NotFoundException", "does not exist", "DescribeKey", `{"KeyId":%q}`, id)
		c.refused("NotFoundException", "alias/a is not found", "DescribeKey", `{"KeyId":"alias/a"}`)
		if n := len(c.call("ListKeys", `{}`).list("Keys")); n != 0 {
			t.Errorf("ListKeys gives %d keys, want none", n)
		}
	})
}

func TestDataKeys(t *testing.T) {
	c := newClient(t, "")
	id := c.key()
	sizeOf := func(a answer, field string) int {
		b, err := base64.StdEncoding.DecodeString(a.str(field))
		if err != nil {
			t.Fatal(err)
		}
		return len(b)
	}
	for arg, want := range map[string]int{`"KeySpec":"AES_256"`: 32, `"KeySpec":"AES_128"`: 16, `"NumberOfBytes":64`: 64} {
		if got := sizeOf(c.call("GenerateDataKey", `{"KeyId":%q,%s}`, id, arg), "Plaintext"); got != want {
			t.Errorf("GenerateDataKey %s = %d bytes, want %d", arg, got, want)
		}
	}
	sealed := c.call("GenerateDataKeyWithoutPlaintext", `{"KeyId":%q,"KeySpec":"AES_256"}`, id)
	if _, clear := sealed["Plaintext"]; clear || sizeOf(sealed, "CiphertextBlob") != 184 {
		t.Errorf("GenerateDataKeyWithoutPlaintext = %v, want a sealed key only", sealed)
	}
	c.refused("ValidationException", "either number of bytes or key spec", "GenerateDataKey", `{"KeyId":%q}`, id)
	c.refused("ValidationException", "either number of bytes or key spec", "GenerateDataKey", `{"KeyId":%q,"KeySpec":"AES_256","NumberOfBytes":3}`, id)
	c.refused("ValidationException", "'numberOfBytes'", "GenerateDataKey", `{"KeyId":%q,"NumberOfBytes":1025}`, id)
	c.refused("ValidationException", "'keySpec'", "GenerateDataKey", `{"KeyId":%q,"KeySpec":"AES_512"}`, id)
	if got := sizeOf(c.call("GenerateRandom", `{"NumberOfBytes":7}`), "Plaintext"); got != 7 {
		t.Errorf("GenerateRandom(7) = %d bytes", got)
	}
	c.refused("ValidationException", "", "GenerateRandom", `{}`)
	c.refused("ValidationException", "4096", "Encrypt", `{"KeyId":%q,"Plaintext":%q}`, id, base64.StdEncoding.EncodeToString(make([]byte, 4097)))
	c.refused("UnsupportedOperationException", "RSA_2048", "CreateKey", `{"KeySpec":"RSA_2048"}`)
	c.refused("ValidationException", "SIGN_VERIFY", "CreateKey", `{"KeyUsage":"SIGN_VERIFY"}`)
}

func TestReEncrypt(t *testing.T) {
	c := newClient(t, "")
	a, b := c.key(), c.key()
	blob := c.call("Encrypt", `{"KeyId":%q,"Plaintext":"aGVsbG8=","EncryptionContext":{"x":"1"}}`, a).str("CiphertextBlob")
	moved := c.call("ReEncrypt", `{"CiphertextBlob":%q,"SourceEncryptionContext":{"x":"1"},"DestinationKeyId":%q,"DestinationEncryptionContext":{"y":"2"}}`, blob, b)
	got := c.call("Decrypt", `{"CiphertextBlob":%q,"EncryptionContext":{"y":"2"},"KeyId":%q}`, moved.str("CiphertextBlob"), b)
	if got.str("Plaintext") != "aGVsbG8=" {
		t.Errorf("after ReEncrypt: %s, want aGVsbG8=", got.str("Plaintext"))
	}
	c.refused("InvalidCiphertextException", "", "ReEncrypt", `{"CiphertextBlob":%q,"DestinationKeyId":%q}`, blob, b)
	c.refused("IncorrectKeyException", "", "ReEncrypt", `{"CiphertextBlob":%q,"SourceKeyId":%q,"SourceEncryptionContext":{"x":"1"},"DestinationKeyId":%q}`, blob, b, b)
	c.call("DisableKey", `{"KeyId":%q}`, b)
	c.refused("DisabledException", "", "ReEncrypt", `{"CiphertextBlob":%q,"SourceEncryptionContext":{"x":"1"},"DestinationKeyId":%q}`, blob, b)
}
