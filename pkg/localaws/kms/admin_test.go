package kms_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-das/weir/pkg/localaws/kms"
)

func TestAliases(t *testing.T) {
	c := newClient(t, "")
	a, b := c.key(), c.key()
	c.call("CreateAlias", `{"AliasName":"alias/one","TargetKeyId":%q}`, a)
	c.refused("AlreadyExistsException", "alias/one already exists", "CreateAlias", `{"AliasName":"alias/one","TargetKeyId":%q}`, b)
	c.refused("ValidationException", "Invalid identifier", "CreateAlias", `{"AliasName":"one","TargetKeyId":%q}`, a)
	c.refused("ValidationException", "^[a-zA-Z0-9:/_-]+$", "CreateAlias", `{"AliasName":"alias/o ne","TargetKeyId":%q}`, a)
	c.refused("ValidationException", "invalid characters", "CreateAlias", `{"AliasName":"alias/o:ne","TargetKeyId":%q}`, a)
	c.refused("NotAuthorizedException", "", "CreateAlias", `{"AliasName":"alias/aws/rds","TargetKeyId":%q}`, a)
	c.refused("ValidationException", "Not aliases", "CreateAlias", `{"AliasName":"alias/two","TargetKeyId":"alias/one"}`)
	c.refused("NotFoundException", "", "CreateAlias", `{"AliasName":"alias/two","TargetKeyId":"00000000-0000-4000-8000-000000000000"}`)
	c.refused("NotFoundException", "alias/two is not found", "UpdateAlias", `{"AliasName":"alias/two","TargetKeyId":%q}`, a)
	c.call("UpdateAlias", `{"AliasName":"alias/one","TargetKeyId":%q}`, b)
	if got := c.call("DescribeKey", `{"KeyId":"alias/one"}`).in("KeyMetadata").str("KeyId"); got != b {
		t.Errorf("after UpdateAlias the key is %s, want %s", got, b)
	}
	c.call("CreateAlias", `{"AliasName":"alias/two","TargetKeyId":%q}`, a)
	if n := len(c.call("ListAliases", `{"KeyId":%q}`, a).list("Aliases")); n != 1 {
		t.Errorf("key a has %d aliases, want 1", n)
	}
	c.call("DeleteAlias", `{"AliasName":"alias/one"}`)
	c.refused("NotFoundException", "", "DeleteAlias", `{"AliasName":"alias/one"}`)
}

// TestEnsureAlias: the first start makes the key, every later one finds it, and a name no client could give is refused.
func TestEnsureAlias(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms.json")
	of := func() string {
		t.Helper()
		c := newClient(t, file)
		if err := c.EnsureAlias("alias/weir"); err != nil {
			t.Fatalf("EnsureAlias = %v", err)
		}
		if n := len(c.call("ListKeys", `{}`).list("Keys")); n != 1 {
			t.Errorf("%d keys, want 1", n)
		}
		c.call("GenerateDataKey", `{"KeyId":"alias/weir","KeySpec":"AES_256"}`)
		return c.call("DescribeKey", `{"KeyId":"alias/weir"}`).in("KeyMetadata").str("KeyId")
	}
	if first, again := of(), of(); first != again {
		t.Errorf("after a restart alias/weir is key %s, want %s", again, first)
	}
	for _, name := range []string{"weir", "alias/", "alias/aws/weir", "alias/we ir", "alias/we:ir"} {
		c := newClient(t, "")
		if err := c.EnsureAlias(name); err == nil || len(c.call("ListKeys", `{}`).list("Keys")) != 0 {
			t.Errorf("EnsureAlias(%q) = %v, want an error and no key", name, err)
		}
	}
}

func TestPages(t *testing.T) {
	c := newClient(t, "")
	id := c.key()
	for i := range 7 {
		c.call("CreateAlias", `{"AliasName":"alias/%d","TargetKeyId":%q}`, i, id)
	}
	var names []string
	marker := ""
	for range 10 {
		a := c.call("ListAliases", `{"Limit":3%s}`, marker)
		for _, v := range a.list("Aliases") {
			names = append(names, v.(map[string]any)["AliasName"].(string))
		}
		if a["Truncated"] == false {
			break
		}
		marker = fmt.Sprintf(`,"Marker":%q`, a.str("NextMarker"))
	}
	if got := strings.Join(names, " "); got != "alias/0 alias/1 alias/2 alias/3 alias/4 alias/5 alias/6" {
		t.Errorf("ListAliases in pages of 3 = %s, want all seven", got)
	}
	c.refused("InvalidMarkerException", "", "ListKeys", `{"Marker":"zz"}`)
}

func TestPolicyTagsDescription(t *testing.T) {
	c := newClient(t, "")
	id := c.key()
	if got := c.call("GetKeyPolicy", `{"KeyId":%q}`, id).str("Policy"); !json.Valid([]byte(got)) || !strings.Contains(got, "arn:aws:iam::000000000000:root") {
		t.Errorf("the default policy = %s, want the account's root", got)
	}
	c.call("PutKeyPolicy", `{"KeyId":%q,"PolicyName":"default","Policy":"{}"}`, id)
	if got := c.call("GetKeyPolicy", `{"KeyId":%q,"PolicyName":"default"}`, id).str("Policy"); got != "{}" {
		t.Errorf("the policy = %s, want {}", got)
	}
	c.refused("NotFoundException", "No such policy", "GetKeyPolicy", `{"KeyId":%q,"PolicyName":"other"}`, id)
	c.call("TagResource", `{"KeyId":%q,"Tags":[{"TagKey":"a","TagValue":"1"},{"TagKey":"b","TagValue":""}]}`, id)
	c.call("UntagResource", `{"KeyId":%q,"TagKeys":["b"]}`, id)
	if got := fmt.Sprint(c.call("ListResourceTags", `{"KeyId":%q}`, id).list("Tags")); got != "[map[TagKey:a TagValue:1]]" {
		t.Errorf("the tags = %s, want a=1", got)
	}
	c.call("UpdateKeyDescription", `{"KeyId":%q,"Description":"new"}`, id)
	if got := c.call("DescribeKey", `{"KeyId":%q}`, id).in("KeyMetadata").str("Description"); got != "new" {
		t.Errorf("the description = %q, want new", got)
	}
	if got := c.call("GetKeyRotationStatus", `{"KeyId":%q}`, id)["KeyRotationEnabled"]; got != false {
		t.Errorf("KeyRotationEnabled = %v, want false", got)
	}
	c.call("ListKeyPolicies", `{"KeyId":%q}`, id)
}

// TestStateFile: another process, later, opens what this one sealed.
func TestStateFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms.json")
	c := newClient(t, file)
	id := c.call("CreateKey", `{"Description":"kept","Tags":[{"TagKey":"a","TagValue":"1"}]}`).in("KeyMetadata").str("KeyId")
	c.call("CreateAlias", `{"AliasName":"alias/kept","TargetKeyId":%q}`, id)
	blob := c.call("Encrypt", `{"KeyId":%q,"Plaintext":"aGVsbG8=","EncryptionContext":{"x":"1"}}`, id).str("CiphertextBlob")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the state file has mode %o, want 600", info.Mode().Perm())
	}
	files, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(files) != 1 {
		t.Errorf("beside the state file lie %v, %v; want nothing", files, err)
	}

	c = newClient(t, file)
	got := c.call("Decrypt", `{"CiphertextBlob":%q,"EncryptionContext":{"x":"1"},"KeyId":"alias/kept"}`, blob)
	if got.str("Plaintext") != "aGVsbG8=" {
		t.Errorf("after a restart: %s, want aGVsbG8=", got.str("Plaintext"))
	}
	c.call("DisableKey", `{"KeyId":%q}`, id)
	c = newClient(t, file)
	c.refused("DisabledException", "", "Decrypt", `{"CiphertextBlob":%q,"EncryptionContext":{"x":"1"}}`, blob)
}

// TestStateFileCannotBeWritten: what is not kept has not happened.
func TestStateFileCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := kms.New(kms.Options{Region: "us-east-1", AccountID: "000000000000", StateFile: filepath.Join(dir, "kms.json")})
	if err != nil {
		t.Fatal(err)
	}
	c := client{t, s}
	id := c.key()
	c.call("CreateAlias", `{"AliasName":"alias/old","TargetKeyId":%q}`, id)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for op, body := range map[string]string{
		"CreateKey":            `{}`,
		"CreateAlias":          fmt.Sprintf(`{"AliasName":"alias/new","TargetKeyId":%q}`, id),
		"DeleteAlias":          `{"AliasName":"alias/old"}`,
		"ScheduleKeyDeletion":  fmt.Sprintf(`{"KeyId":%q}`, id),
		"UpdateKeyDescription": fmt.Sprintf(`{"KeyId":%q,"Description":"x"}`, id),
	} {
		c.refused("KMSInternalException", "", op, "%s", body)
	}
	if err := s.EnsureAlias("alias/new"); err == nil {
		t.Error("EnsureAlias = nil, want the error of the state file")
	}
	if n := len(c.call("ListKeys", `{}`).list("Keys")); n != 1 {
		t.Errorf("%d keys, want the one that was kept", n)
	}
	a := c.call("DescribeKey", `{"KeyId":"alias/old"}`).in("KeyMetadata")
	if a.str("KeyState") != "Enabled" || a.str("Description") != "" {
		t.Errorf("the key = %v, want it unchanged", a)
	}
	c.refused("NotFoundException", "", "DescribeKey", `{"KeyId":"alias/new"}`)
}

func TestStateFileRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms.json")
	for name, tc := range map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"readable by others": {`{"Version":1}`, 0o644, "lets others read the keys"},
		"no JSON":            {`{`, 0o600, "unexpected end"},
		"a later version":    {`{"Version":2}`, 0o600, "version 2, want 1"},
		"a short key":        {`{"Version":1,"Keys":[{"ID":"00000000-0000-4000-8000-000000000000","Material":"AAAA"}]}`, 0o600, "key 0 is malformed"},
		"an odd id":          {`{"Version":1,"Keys":[{"ID":"x"}]}`, 0o600, "key 0 is malformed"},
		"an odd alias":       {`{"Version":1,"Aliases":[{"Name":"x"}]}`, 0o600, "alias 0 is malformed"},
	} {
		if err := os.WriteFile(file, []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, tc.mode); err != nil {
			t.Fatal(err)
		}
		_, err := kms.New(kms.Options{StateFile: file})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("New with a state file %s = %v, want …%s…", name, err, tc.want)
		}
	}
}
