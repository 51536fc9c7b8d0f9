package kms_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"path/filepath"
	"testing"
)

// What a signing key signs, anybody checks with its public half, also after a
// restart; and it does nothing else.
func TestSign(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms.json")
	c := newClient(t, file)
	made, refused := c.try("CreateKey", `{"KeySpec":"ECC_NIST_P256","KeyUsage":"SIGN_VERIFY"}`)
	if refused != nil {
		t.Fatal(refused)
	}
	id := made.in("KeyMetadata").str("KeyId")
	if m := made.in("KeyMetadata"); m.str("KeySpec") != "ECC_NIST_P256" || m.str("KeyUsage") != "SIGN_VERIFY" || len(m.list("SigningAlgorithms")) != 1 {
		t.Errorf("%v", m)
	}
	c = newClient(t, file)
	message := base64.StdEncoding.EncodeToString([]byte("hello"))
	digest := sha256.Sum256([]byte("hello"))
	signed, refused := c.try("Sign", `{"KeyId":%q,"Message":%q,"SigningAlgorithm":"ECDSA_SHA_256"}`, id, message)
	if refused != nil {
		t.Fatal(refused)
	}
	public, refused := c.try("GetPublicKey", `{"KeyId":%q}`, id)
	if refused != nil {
		t.Fatal(refused)
	}
	der, err := base64.StdEncoding.DecodeString(public.str("PublicKey"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := base64.StdEncoding.DecodeString(signed.str("Signature"))
	if err != nil || !ecdsa.VerifyASN1(parsed.(*ecdsa.PublicKey), digest[:], signature) {
		t.Errorf("the signature is not the key's: %v", err)
	}
	if valid, refused := c.try("Verify", `{"KeyId":%q,"Message":%q,"MessageType":"DIGEST","SigningAlgorithm":"ECDSA_SHA_256","Signature":%q}`,
		id, base64.StdEncoding.EncodeToString(digest[:]), signed.str("Signature")); refused != nil || valid["SignatureValid"] != true {
		t.Errorf("Verify = %v, %v", valid, refused)
	}
	symmetric, _ := c.try("CreateKey", `{}`)
	other := symmetric.in("KeyMetadata").str("KeyId")
	for _, r := range []struct{ op, body, want string }{
		{"Verify", `{"KeyId":"` + id + `","Message":"aGVsbG8h","SigningAlgorithm":"ECDSA_SHA_256","Signature":"` + signed.str("Signature") + `"}`, "KMSInvalidSignatureException"},
		{"Sign", `{"KeyId":"` + other + `","Message":"aGVsbG8h","SigningAlgorithm":"ECDSA_SHA_256"}`, "InvalidKeyUsageException"},
		{"Sign", `{"KeyId":"` + id + `","Message":"aGVsbG8h","SigningAlgorithm":"ECDSA_SHA_512"}`, "InvalidKeyUsageException"},
		{"Sign", `{"KeyId":"` + id + `","Message":"aGVsbG8h","MessageType":"DIGEST","SigningAlgorithm":"ECDSA_SHA_256"}`, "ValidationException"},
		{"GetPublicKey", `{"KeyId":"` + other + `"}`, "UnsupportedOperationException"},
		{"GenerateDataKey", `{"KeyId":"` + id + `","KeySpec":"AES_256"}`, "InvalidKeyUsageException"},
		{"Encrypt", `{"KeyId":"` + id + `","Plaintext":"aGVsbG8h"}`, "InvalidKeyUsageException"},
		{"CreateKey", `{"KeySpec":"ECC_NIST_P256"}`, "ValidationException"},
		{"CreateKey", `{"KeySpec":"RSA_2048","KeyUsage":"SIGN_VERIFY"}`, "UnsupportedOperationException"},
	} {
		if got, refused := c.try(r.op, "%s", r.body); refused == nil || refused.Code != r.want {
			t.Errorf("%s %s = %v, %v, want %s", r.op, r.body, got, refused, r.want)
		}
	}
	if _, refused := c.try("DisableKey", `{"KeyId":%q}`, id); refused != nil {
		t.Fatal(refused)
	}
	if _, refused := c.try("Sign", `{"KeyId":%q,"Message":%q,"SigningAlgorithm":"ECDSA_SHA_256"}`, id, message); refused == nil || refused.Code != "DisabledException" {
		t.Errorf("a disabled key signs: %v", refused)
	}
}
