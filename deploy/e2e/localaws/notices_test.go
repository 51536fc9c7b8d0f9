package localaws_test

import (
	"strings"
	"testing"

	"github.com/weir-das/weir/pkg/localaws"
)

// The aws command puts events and publishes messages, and is refused as by AWS.
func TestTheCommandLinePutsEventsAndPublishes(t *testing.T) {
	server, url := start(t, localaws.Options{})
	c := newCLI(t, url)

	out, complaint := c.run("events", "put-events", "--entries",
		`[{"Source":"weir.rds","DetailType":"RDS DB Cluster Event","Detail":"{\"EventID\":\"RDS-EVENT-0179\"}","EventBusName":"audit"},
		  {"Source":"aws.rds","DetailType":"x","Detail":"{}"},
		  {"Source":"weir.rds","DetailType":"x","Detail":"no JSON"}]`)
	if complaint != "" || out["FailedEntryCount"] != 2.0 {
		t.Fatalf("put-events = %v, %s, want two of three to fail", out, complaint)
	}
	entries := out["Entries"].([]any)
	for i, want := range []string{"", "NotAuthorizedForSourceException", "MalformedDetail"} {
		code, _ := entries[i].(map[string]any)["ErrorCode"].(string)
		if code != want {
			t.Errorf("entry %d has error %q, want %q", i, code, want)
		}
	}
	if got := server.EventBridge().Events(); len(got) != 1 || got[0].Bus != "audit" || got[0].Source != "weir.rds" {
		t.Errorf("taken: %+v, want the first", got)
	}

	arn := c.text("TopicArn", "sns", "create-topic", "--name", "ops")
	if id := c.text("MessageId", "sns", "publish", "--topic-arn", arn, "--message", "hello <&>", "--subject", "s",
		"--message-attributes", `{"EventID":{"DataType":"String","StringValue":"RDS-EVENT-0179"}}`); id == "" {
		t.Error("publish gives no MessageId")
	}
	got := server.SNS().Messages()
	if len(got) != 1 || got[0].Text != "hello <&>" || got[0].Subject != "s" || got[0].Attributes["EventID"] != "RDS-EVENT-0179" || got[0].TopicARN != arn {
		t.Errorf("published: %+v", got)
	}
	for want, args := range map[string][]string{
		"NotFound":         {"sns", "publish", "--topic-arn", arn + "x", "--message", "m"},
		"InvalidParameter": {"sns", "publish", "--topic-arn", arn, "--message", "m", "--subject", strings.Repeat("s", 101)},
	} {
		if _, complaint := c.run(args...); !strings.Contains(complaint, want) {
			t.Errorf("aws %v complains %q, want %s", args, complaint, want)
		}
	}
}
