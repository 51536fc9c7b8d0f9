package localaws_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/transport/http"

	"github.com/weir-das/weir/pkg/localaws"
	"github.com/weir-das/weir/pkg/localaws/inject"
)

// TestSDKKinesis is a producer's and a consumer's day with the Go SDK.
func TestSDKKinesis(t *testing.T) {
	ctx := t.Context()
	_, url := start(t, localaws.Options{})
	k := kinesisClient(url)
	name := aws.String("aws-rds-das-cluster-TEST")
	if _, err := k.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: name, ShardCount: aws.Int32(2)}); err != nil {
		t.Fatal(err)
	}
	d, err := k.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: name})
	if err != nil {
		t.Fatal(err)
	}
	if s := d.StreamDescriptionSummary; s.StreamStatus != kinesistypes.StreamStatusActive || *s.OpenShardCount != 2 {
		t.Fatalf("DescribeStreamSummary = %s with %d shards, want ACTIVE with 2", s.StreamStatus, *s.OpenShardCount)
	}
	sent := putSome(t, k, name, 100)
	got := readAll(ctx, t, k, name)
	for key, data := range sent {
		if !bytes.Equal(got[key], data) {
			t.Errorf("record %s = %q, want %q", key, got[key], data)
		}
	}
	if len(got) != len(sent) {
		t.Errorf("read %d records, want %d", len(got), len(sent))
	}
	_, err = k.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("other"), PartitionKey: name, Data: []byte("x")})
	var notFound *kinesistypes.ResourceNotFoundException
	if !errors.As(err, &notFound) {
		t.Errorf("PutRecord to no stream = %v, want ResourceNotFoundException", err)
	}
}

func putSome(t *testing.T, k *kinesis.Client, name *string, n int) map[string][]byte {
	t.Helper()
	sent := map[string][]byte{}
	var entries []kinesistypes.PutRecordsRequestEntry
	for i := range n {
		key := string(rune('a'+i%26)) + string(rune('0'+i/26))
		sent[key] = bytes.Repeat([]byte(key), i*37)
		entries = append(entries, kinesistypes.PutRecordsRequestEntry{PartitionKey: aws.String(key), Data: sent[key]})
	}
	out, err := k.PutRecords(t.Context(), &kinesis.PutRecordsInput{StreamName: name, Records: entries})
	if err != nil || *out.FailedRecordCount != 0 {
		t.Fatalf("PutRecords = %v, %v, want all taken", out, err)
	}
	return sent
}

// readAll reads every shard from its beginning to its tip.
func readAll(ctx context.Context, t *testing.T, k *kinesis.Client, name *string) map[string][]byte {
	t.Helper()
	got := map[string][]byte{}
	shards, err := k.ListShards(ctx, &kinesis.ListShardsInput{StreamName: name})
	if err != nil {
		t.Fatal(err)
	}
	for _, sh := range shards.Shards {
		it, err := k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: name, ShardId: sh.ShardId,
			ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon})
		if err != nil {
			t.Fatal(err)
		}
		for next := it.ShardIterator; next != nil; {
			out, err := k.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: next, Limit: aws.Int32(7)})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range out.Records {
				got[*r.PartitionKey] = r.Data
			}
			if next = out.NextShardIterator; len(out.Records) == 0 && *out.MillisBehindLatest == 0 {
				break
			}
		}
	}
	return got
}

// TestSDKKMS is what crypto and a consumer do with a key.
func TestSDKKMS(t *testing.T) {
	ctx := t.Context()
	srv, url := start(t, localaws.Options{})
	k := kmsClient(url)
	key, err := k.CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String("a test's")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/das"), TargetKeyId: key.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	context := map[string]string{"aws:rds:dbc-id": "cluster-TEST"}
	dk, err := k.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: aws.String("alias/das"), KeySpec: kmstypes.DataKeySpecAes256, EncryptionContext: context})
	if err != nil {
		t.Fatal(err)
	}
	if len(dk.Plaintext) != 32 || len(dk.CiphertextBlob) != 184 || *dk.KeyId != *key.KeyMetadata.Arn {
		t.Errorf("GenerateDataKey = %d clear, %d sealed bytes of %s, want 32, 184, %s", len(dk.Plaintext), len(dk.CiphertextBlob), *dk.KeyId, *key.KeyMetadata.Arn)
	}
	plain, err := k.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: dk.CiphertextBlob, EncryptionContext: context})
	if err != nil || !bytes.Equal(plain.Plaintext, dk.Plaintext) {
		t.Fatalf("Decrypt = %v, %v, want the data key", plain, err)
	}
	_, err = k.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: dk.CiphertextBlob, EncryptionContext: map[string]string{"aws:rds:dbc-id": "cluster-OTHER"}})
	var invalid *kmstypes.InvalidCiphertextException
	if !errors.As(err, &invalid) {
		t.Errorf("Decrypt with another context = %v, want InvalidCiphertextException", err)
	}
	if err := srv.KMS().Disable("alias/das"); err != nil {
		t.Fatal(err)
	}
	_, err = k.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: dk.CiphertextBlob, EncryptionContext: context})
	var disabled *kmstypes.DisabledException
	if !errors.As(err, &disabled) {
		t.Errorf("Decrypt with a disabled key = %v, want DisabledException", err)
	}
}

// TestSDKSeesFaults: what a producer is to survive reaches it as from AWS.
func TestSDKSeesFaults(t *testing.T) {
	ctx := t.Context()
	srv, url := start(t, localaws.Options{})
	k, name := kinesisClient(url), aws.String("s")
	if _, err := k.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: name, StreamModeDetails: &kinesistypes.StreamModeDetails{StreamMode: kinesistypes.StreamModeOnDemand}}); err != nil {
		t.Fatal(err)
	}
	var entries []kinesistypes.PutRecordsRequestEntry
	for range 200 {
		entries = append(entries, kinesistypes.PutRecordsRequestEntry{PartitionKey: name, Data: []byte("x")})
	}
	put := func() (*kinesis.PutRecordsOutput, error) {
		return k.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: name, Records: entries})
	}
	remove := srv.Kinesis().FailPut(inject.Fault{Fraction: 0.5, Seed: 3, Code: "ProvisionedThroughputExceededException"})
	out, err := put()
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, r := range out.Records {
		if r.ErrorCode != nil && *r.ErrorCode == "ProvisionedThroughputExceededException" && r.SequenceNumber == nil {
			failed++
		}
	}
	if failed < 60 || failed > 140 || int(*out.FailedRecordCount) != failed {
		t.Errorf("%d of 200 records failed and FailedRecordCount is %d, want about 100 both", failed, *out.FailedRecordCount)
	}
	remove()
	for code, fault := range map[string]smithy.ErrorFault{"InternalFailure": smithy.FaultServer, "AccessDeniedException": smithy.FaultClient} {
		remove := srv.Kinesis().FailPut(inject.Fault{Code: code})
		_, err := put()
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != code {
			t.Errorf("PutRecords = %v, want %s", err, code)
		}
		var status *http.ResponseError
		if errors.As(err, &status) && (status.HTTPStatusCode() >= 500) != (fault == smithy.FaultServer) {
			t.Errorf("%s has status %d", code, status.HTTPStatusCode())
		}
		remove()
	}
	if _, err := put(); err != nil {
		t.Errorf("with all faults removed PutRecords = %v", err)
	}
}

// TestSDKPages: the SDK's own paginators find everything and end.
func TestSDKPages(t *testing.T) {
	ctx := t.Context()
	_, url := start(t, localaws.Options{})
	k := kinesisClient(url)
	for i := range 7 {
		if _, err := k.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String(string(rune('a' + i))), ShardCount: aws.Int32(1)}); err != nil {
			t.Fatal(err)
		}
	}
	names := 0
	for p := kinesis.NewListStreamsPaginator(k, &kinesis.ListStreamsInput{Limit: aws.Int32(3)}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		names += len(page.StreamNames)
	}
	if names != 7 {
		t.Errorf("the paginator found %d streams, want 7", names)
	}
	m := kmsClient(url)
	for range 5 {
		if _, err := m.CreateKey(ctx, &kms.CreateKeyInput{}); err != nil {
			t.Fatal(err)
		}
	}
	keys := 0
	for p := kms.NewListKeysPaginator(m, &kms.ListKeysInput{Limit: aws.Int32(2)}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		keys += len(page.Keys)
	}
	if keys != 5 {
		t.Errorf("the paginator found %d keys, want 5", keys)
	}
}
