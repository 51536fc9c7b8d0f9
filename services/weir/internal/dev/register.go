package dev

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/stream"
)

// startLimit bounds each wait of a start. A laptop under load needs a few seconds.
const startLimit = 60 * time.Second

// register tells control of the cluster and its instance, or finds that it
// knows them from an earlier start.
func (m *mesh) register(ctx context.Context, control controlv1.ControlServiceClient) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	_, err := control.CreateCluster(ctx, &controlv1.CreateClusterRequest{ClusterId: clusterID, Engine: "postgres"})
	if err != nil && status.Code(err) != codes.Aborted {
		return connect.Explain("registering the cluster", err)
	}
	_, err = control.CreateInstance(ctx, &controlv1.CreateInstanceRequest{ClusterId: clusterID, InstanceId: instanceID})
	if err != nil && status.Code(err) != codes.Aborted {
		return connect.Explain("registering the instance", err)
	}
	out, err := control.GetCluster(ctx, &controlv1.GetClusterRequest{ClusterId: clusterID})
	if err != nil {
		return connect.Explain("asking for the cluster", err)
	}
	m.file.ClusterResourceID = out.GetCluster().GetClusterResourceId()
	return nil
}

// ensureKey makes the KMS key that the data keys are encrypted under, or finds
// the one of an earlier start.
func (m *mesh) ensureKey(ctx context.Context) error {
	cfg, err := m.file.AWS(ctx)
	if err != nil {
		return err
	}
	client := kms.NewFromConfig(cfg)
	_, err = client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(keyAlias)})
	var missing *types.NotFoundException
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &missing):
		return fmt.Errorf("looking for the KMS key %s: %w", keyAlias, err)
	}
	key, err := client.CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String("weir dev")})
	if err != nil {
		return fmt.Errorf("making a KMS key: %w", err)
	}
	_, err = client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(keyAlias), TargetKeyId: key.KeyMetadata.KeyId})
	if err != nil {
		return fmt.Errorf("naming the KMS key %s: %w", keyAlias, err)
	}
	return nil
}

// startStream starts the stream, or takes up the one of an earlier start: that
// one's Kinesis stream went with its process, and is made again.
func (m *mesh) startStream(ctx context.Context, control controlv1.ControlServiceClient) error {
	out, err := control.GetStream(ctx, &controlv1.GetStreamRequest{ClusterId: clusterID})
	if err != nil {
		return connect.Explain("asking for the stream", err)
	}
	st := out.GetStream()
	if st.GetStatus() == controlv1.StreamStatus_STREAM_STATUS_STOPPING {
		if st, err = stream.Await(ctx, control, clusterID, controlv1.StreamStatus_STREAM_STATUS_STOPPED, startLimit); err != nil {
			return err
		}
	}
	if name := st.GetKinesisStream(); name != "" {
		if err := m.ensureStream(ctx, name); err != nil {
			return err
		}
	}
	runs := st.GetStatus() == controlv1.StreamStatus_STREAM_STATUS_STARTED || st.GetStatus() == controlv1.StreamStatus_STREAM_STATUS_STARTING
	asked := !runs || m.Mode.Mode != ""
	if asked {
		in := &controlv1.StartStreamRequest{ClusterId: clusterID, KmsKeyId: keyAlias}
		if runs { // it may have been started with others since
			in.KmsKeyId, in.RecordLayout = st.GetKmsKeyId(), st.GetRecordLayout()
		}
		m.Mode.Fill(in)
		if _, err := control.StartStream(ctx, in); err != nil {
			return connect.Explain("starting the stream", err)
		}
	}
	st, err = stream.Await(ctx, control, clusterID, controlv1.StreamStatus_STREAM_STATUS_STARTED, startLimit)
	if err != nil {
		return err
	}
	m.file.KinesisStream = st.GetKinesisStream()
	if !asked {
		return nil
	}
	// Whoever reads the ready file may rely on the mode.
	_, err = stream.AwaitCarriedOut(ctx, control, clusterID, startLimit)
	return err
}

// ensureStream has publisher make the Kinesis stream.
func (m *mesh) ensureStream(ctx context.Context, name string) error {
	conn, err := m.file.Publisher()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	_, err = publisherv1.NewPublisherServiceClient(conn).EnsureStream(ctx, &publisherv1.EnsureStreamRequest{Name: name})
	if err != nil {
		return connect.Explain("making the Kinesis stream", err)
	}
	return nil
}
