package mesh

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/weir-das/weir/pkg/esdk"
)

// Sealed is a record as a consumer finds it in Kinesis, and the key that opens
// it as KMS gave it.
type Sealed struct {
	Type    string `json:"type"`
	Version string `json:"version"`
	Events  []byte `json:"databaseActivityEvents"`
	Key     []byte `json:"key"`
	DataKey []byte `json:"-"`
}

// Record is a DAS record in clear, as an outsider sees it: nothing here comes
// from the code that wrote it.
type Record struct {
	Type       string            `json:"type"`
	ClusterID  string            `json:"clusterId"`
	InstanceID string            `json:"instanceId"`
	Events     []json.RawMessage `json:"databaseActivityEventList"`
	Weir       *Weir             `json:"weir"`
}

// Weir is the extension of a record.
type Weir struct {
	V         int               `json:"v"`
	Epoch     uint64            `json:"epoch"`
	N         []uint64          `json:"n"`
	Gaps      []json.RawMessage `json:"gaps"`
	Prev      string            `json:"prev"`
	Last      string            `json:"last"`
	Truncated []json.RawMessage `json:"truncated"`
	Started   []json.RawMessage `json:"started"`
	Notices   []json.RawMessage `json:"notices"`
}

// Sealed reads everything that the Kinesis stream holds now.
func (m *Mesh) Sealed(ctx context.Context) ([]Sealed, error) {
	k := m.Kinesis()
	shards, err := k.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &m.KinesisStream})
	if err != nil {
		return nil, err
	}
	keys := map[string][]byte{}
	var all []Sealed
	for _, shard := range shards.Shards {
		it, err := k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
			StreamName: &m.KinesisStream, ShardId: shard.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
		})
		if err != nil {
			return nil, err
		}
		for next := it.ShardIterator; next != nil; {
			page, err := k.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: next})
			if err != nil {
				return nil, err
			}
			for _, r := range page.Records {
				s, err := m.unwrap(ctx, r.Data, keys)
				if err != nil {
					return nil, err
				}
				all = append(all, s)
			}
			next = page.NextShardIterator
			if len(page.Records) == 0 && aws.ToInt64(page.MillisBehindLatest) == 0 {
				break
			}
		}
	}
	return all, nil
}

// unwrap parses an outer record and asks KMS for its data key.
func (m *Mesh) unwrap(ctx context.Context, data []byte, keys map[string][]byte) (Sealed, error) {
	var s Sealed
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("outer record: %w", err)
	}
	if s.Type != "DatabaseActivityMonitoringRecords" {
		return s, fmt.Errorf("outer record has the type %q", s.Type)
	}
	if keys[string(s.Key)] == nil {
		out, err := m.KMS().Decrypt(ctx, &kms.DecryptInput{
			CiphertextBlob:    s.Key,
			EncryptionContext: map[string]string{"aws:rds:dbc-id": m.ClusterResourceID},
		})
		if err != nil {
			return s, fmt.Errorf("asking KMS for the data key: %w", err)
		}
		keys[string(s.Key)] = out.Plaintext
	}
	s.DataKey = keys[string(s.Key)]
	return s, nil
}

// Records opens everything that the Kinesis stream holds now.
func (m *Mesh) Records(ctx context.Context) ([]Record, error) {
	sealed, err := m.Sealed(ctx)
	if err != nil {
		return nil, err
	}
	records := make([]Record, len(sealed))
	for i, s := range sealed {
		if records[i], err = s.record(); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// OpenRecord opens one record as it came from Kinesis.
func (m *Mesh) OpenRecord(ctx context.Context, data []byte) (Record, error) {
	if m.dataKeys == nil {
		m.dataKeys = map[string][]byte{}
	}
	s, err := m.unwrap(ctx, data, m.dataKeys)
	if err != nil {
		return Record{}, err
	}
	return s.record()
}

func (s Sealed) record() (r Record, err error) {
	plain, err := s.Open()
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(plain, &r); err != nil {
		return r, fmt.Errorf("DAS record: %w", err)
	}
	return r, nil
}

// Open returns the record in clear.
func (s Sealed) Open() ([]byte, error) {
	key := esdk.Key(s.DataKey)
	packed, err := esdk.Open(nil, &key, s.Events)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
