package publisher

import (
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/weir-das/weir/pkg/localaws"
	"github.com/weir-das/weir/services/publisher/internal/kinesis"
)

// The records are refused once and taken when they are tried again; a stream
// whose name is none of ours is left alone.
func TestStreamThatIsGoneIsMadeAgain(t *testing.T) {
	server, err := localaws.New(localaws.Options{})
	if err != nil {
		t.Fatal(err)
	}
	endpoint := httptest.NewServer(server)
	defer endpoint.Close()
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": os.DevNull} {
		t.Setenv(name, value)
	}
	log := slog.New(slog.DiscardHandler)
	client, err := kinesis.New(t.Context(), endpoint.URL, "us-east-1", log)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	r := &remaking{Client: client, log: log, told: func(stream, cluster string) { told = append(told, stream+" of "+cluster) }}
	records := []kinesis.Record{{PartitionKey: "p", Data: []byte("sealed"), ClusterID: "orders"}}

	for _, test := range []struct {
		stream string
		again  error // what the second try says
	}{
		{"aws-rds-das-cluster-A", nil},
		{"somebody-elses", kinesis.ErrNoStream},
	} {
		if _, err := r.Put(t.Context(), test.stream, records); !errors.Is(err, kinesis.ErrNoStream) {
			t.Errorf("first Put to %s = %v, want that the stream is missing", test.stream, err)
		}
		results, err := r.Put(t.Context(), test.stream, records)
		if !errors.Is(err, test.again) {
			t.Errorf("second Put to %s = %v, want %v", test.stream, err, test.again)
		}
		if test.again == nil && (len(results) != 1 || results[0] != nil) {
			t.Errorf("second Put to %s answers %v for its record, want that Kinesis has it", test.stream, results)
		}
	}
	if len(told) != 1 || told[0] != "aws-rds-das-cluster-A of orders" {
		t.Errorf("told %q, want the stream that was made again, once, and whose", told)
	}
}
