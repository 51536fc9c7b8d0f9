package wire_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

func schema() []wire.Field {
	str := &wire.Field{Type: wire.TypeString}
	return []wire.Field{
		{Name: "Name", Required: true, Pattern: regexp.MustCompile(`^(?:[a-z]+)$`), Min: 1, Max: 4},
		{Name: "Kind", Enum: []string{"A", "B"}},
		{Name: "Count", Type: wire.TypeInt, Min: 1, Max: 10},
		{Name: "On", Type: wire.TypeBool},
		{Name: "At", Type: wire.TypeTime},
		{Name: "Data", Type: wire.TypeBlob, Max: 4},
		{Name: "Tags", Type: wire.TypeMap, Min: 1, Max: 2, KeyMax: 3, ElemMax: 3, Elem: str},
		{Name: "Keys", Type: wire.TypeList, Min: 1, Max: 2, ElemMax: 3, Elem: str},
		{Name: "Records", Type: wire.TypeList, Max: 3, Elem: &wire.Field{Type: wire.TypeStruct, Fields: []wire.Field{
			{Name: "Data", Type: wire.TypeBlob, Required: true, Max: 4}, {Name: "Key", Required: true, Min: 1, Max: 2}}}},
	}
}

// TestCheck says which requests are refused and how. The texts are AWS's, as clients and kinesalite know them.
func TestCheck(t *testing.T) {
	const valid = "ValidationException: 1 validation error detected: "
	for _, tc := range []struct{ in, want string }{
		{`{"Name":"ab","Unknown":[1],"Kind":"A","Count":10,"On":true,"At":1.5,"Data":"AAECAw==","Tags":{"a":"b"},"Keys":["a"]}`, ""},
		{`{"Name":"ab","Count":null,"Records":[{"Data":"","Key":"k"}]}`, ""},
		{`{}`, valid + "Value null at 'name' failed to satisfy constraint: Member must not be null"},
		{`{"Name":1}`, "SerializationException: class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an String"},
		{`{"Name":true}`, "SerializationException: class java.lang.Boolean can not be converted to an String"},
		{`{"Name":[]}`, "SerializationException: Start of list found where not expected"},
		{`{"Name":{}}`, "SerializationException: Start of structure or map found where not expected."},
		{`{"Count":"1"}`, "SerializationException: class java.lang.String can not be converted to an Integer"},
		{`{"Count":false}`, "SerializationException: class java.lang.Boolean can not be converted to an Integer"},
		{`{"On":"true"}`, "SerializationException: 'TRUE' can not be converted to an Boolean"},
		{`{"On":1}`, "SerializationException: class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an Boolean"},
		{`{"At":"x"}`, "SerializationException: class java.lang.String can not be converted to milliseconds since epoch"},
		{`{"Data":"abc"}`, "SerializationException: 'abc' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 3"},
		{`{"Data":"ab!="}`, "SerializationException: 'ab!=' can not be converted to a Blob: Invalid Base64 character"},
		{`{"Data":"ab=="}`, "SerializationException: 'ab==' can not be converted to a Blob: Invalid Base64 character"}, // stray bits
		{`{"Data":"ab\n\n\n\ncdef"}`, "SerializationException: 'ab\n\n\n\ncdef' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 10"},
		{`{"Data":"YWJj\n\n\n\n"}`, "SerializationException: 'YWJj\n\n\n\n' can not be converted to a Blob: Invalid Base64 character"},
		{`{"Tags":[]}`, "SerializationException: Start of list found where not expected"},
		{`{"Tags":1}`, "SerializationException: Expected map or null"},
		{`{"Tags":{"a":1}}`, "SerializationException: class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an String"},
		{`{"Keys":{}}`, "SerializationException: Start of structure or map found where not expected."},
		{`{"Keys":"a"}`, "SerializationException: Expected list or null"},
		{`{"Records":[1]}`, "SerializationException: Expected null"},
		{`[]`, "SerializationException: Start of list found where not expected"},
		{`{"Name":"ABCDE"}`, "ValidationException: 2 validation errors detected: Value 'ABCDE' at 'name' failed to satisfy constraint: " +
			"Member must satisfy regular expression pattern: [a-z]+; Value 'ABCDE' at 'name' failed to satisfy constraint: Member must have length less than or equal to 4"},
		{`{"Name":"a","Kind":"C"}`, valid + "Value 'C' at 'kind' failed to satisfy constraint: Member must satisfy enum value set: [A, B]"},
		{`{"Name":"a","Count":0}`, valid + "Value '0' at 'count' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{`{"Name":"a","Count":10.9}`, ""}, // cut to an integer
		{`{"Name":"a","Count":1e30}`, valid + "Value '1e30' at 'count' failed to satisfy constraint: Member must have value less than or equal to 10"},
		{`{"Name":"a","Data":"AAECAwQ="}`, valid + "Value 'java.nio.HeapByteBuffer[pos=0 lim=5 cap=5]' at 'data' failed to satisfy constraint: Member must have length less than or equal to 4"},
		{`{"Name":"a","Tags":{}}`, valid + "Value '{}' at 'tags' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{`{"Name":"a","Tags":{"abcd":"b"}}`, valid + "Value '{abcd=b}' at 'tags' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 3, Member must have length greater than or equal to 1]"},
		{`{"Name":"a","Tags":{"a":"bcde"}}`, valid + "Value '{a=bcde}' at 'tags' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 3, Member must have length greater than or equal to 0]"},
		{`{"Name":"a","Keys":["abcd"]}`, valid + "Value '[abcd]' at 'keys' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 3, Member must have length greater than or equal to 1]"},
		{`{"Name":"a","Records":[{"Data":"","Key":"k"},{"Key":""}]}`, "ValidationException: 2 validation errors detected: " +
			"Value null at 'records.2.member.data' failed to satisfy constraint: Member must not be null; " +
			"Value '' at 'records.2.member.key' failed to satisfy constraint: Member must have length greater than or equal to 1"},
	} {
		v, err := wire.ParseJSON([]byte(tc.in))
		if err != nil {
			t.Fatalf("ParseJSON(%s) = %v", tc.in, err)
		}
		got := ""
		if _, err := wire.Check(v, schema(), false); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("Check(%s)\n got %q\nwant %q", tc.in, got, tc.want)
		}
	}
}

func TestCheckTellsTenAtMost(t *testing.T) {
	v, err := wire.ParseJSON([]byte(`{"Name":"a","Records":[` + strings.Repeat(`{},`, 20) + `{}]}`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = wire.Check(v, schema(), false)
	var e *wire.Error
	if !errors.As(err, &e) || strings.Count(e.Message, "failed to satisfy") != 10 || !strings.HasPrefix(e.Message, "10 validation errors") {
		t.Errorf("Check(21 records without fields) = %v, want ten violations", err)
	}
}

// TestBlobsAreCopies: the body is reused after the call; what a service keeps must not change with it.
func TestBlobsAreCopies(t *testing.T) {
	for _, cbor := range []bool{false, true} {
		body := []byte(`{"Name":"a","Data":"aGk="}`)
		parse := wire.ParseJSON
		if cbor {
			body, parse = []byte("\xa2\x64Name\x61a\x64Data\x42hi"), wire.ParseCBOR
		}
		v, err := parse(body)
		if err != nil {
			t.Fatal(err)
		}
		in, err := wire.Check(v, schema(), cbor)
		if err != nil {
			t.Fatal(err)
		}
		data, name := in.Blob("Data"), in.Str("Name")
		clear(body)
		if string(data) != "hi" || name != "a" {
			t.Errorf("cbor %t: after the body is reused, Data = %q and Name = %q, want hi and a", cbor, data, name)
		}
	}
}
