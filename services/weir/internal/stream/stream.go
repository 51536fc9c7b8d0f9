// Package stream is `weir stream`: start, stop and look at a cluster's
// activity stream.
//
// Before: a person or a script.
// Next: services/control, over gRPC.
package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/weir/internal/cluster"
	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// Command is `weir stream`.
type Command struct {
	Start  Start  `cmd:"" help:"Start a cluster's activity stream."`
	Stop   Stop   `cmd:"" help:"Stop it. What was recorded before is still delivered."`
	Status Status `cmd:"" help:"Show it, and every instance behind it."`
}

// target is what all three have: whose stream.
type target struct {
	Cluster       string `placeholder:"ID" help:"The cluster. The default is the connect file's."`
	JSON          bool   `help:"Print the answer as JSON."`
	connect.Flags `embed:""`
}

// dial connects to control and settles which cluster is meant.
func (t *target) dial() (controlv1.ControlServiceClient, *grpc.ClientConn, error) {
	file, err := t.Resolve()
	if err != nil {
		return nil, nil, err
	}
	if t.Cluster == "" {
		t.Cluster = file.ClusterID
	}
	conn, err := file.Control()
	if err != nil {
		return nil, nil, err
	}
	if t.Cluster == "" {
		return nil, nil, errors.Join(errors.New("no cluster named: use --cluster ID; `weir cluster list` shows them"), conn.Close())
	}
	return controlv1.NewControlServiceClient(conn), conn, nil
}

// Start is `weir stream start`.
type Start struct {
	KMSKey  string `name:"kms-key" required:"" placeholder:"KEY" help:"A key's id, its ARN, an alias or the ARN of an alias."`
	Mode    `embed:""`
	Layout  string        `enum:"packed,aurora" default:"packed" help:"packed: as many events as a record holds. aurora: small records, for consumers that look at few events."`
	Wait    bool          `help:"Return when the stream is started, and every instance that lives does what was asked for."`
	Timeout time.Duration `default:"2m" help:"How long --wait waits."`
	target  `embed:""`
}

// Help is shown by --help.
func (Start) Help() string {
	return `Makes the Kinesis stream, tries the KMS key, and tells the captures of the cluster's instances to record. Of a stream that runs it changes --mode and the flags that go with it, while it runs; the key and the layout must be the same.

Examples:
  weir stream start --cluster orders --kms-key alias/orders --wait
  weir stream start --kms-key 1234abcd-12ab-34cd-56ef-1234567890ab --layout aurora
  weir stream start --kms-key alias/orders --mode sync --sync-level transaction --on-failure continue --sync-timeout 5s --wait`
}

// Run starts the stream.
func (c Start) Run(ctx context.Context, s terminal.Streams) error {
	control, conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	in := &controlv1.StartStreamRequest{
		ClusterId: c.Cluster, KmsKeyId: c.KMSKey, RecordLayout: controlv1.RecordLayout_RECORD_LAYOUT_PACKED,
	}
	c.Fill(in)
	if c.Layout == "aurora" {
		in.RecordLayout = controlv1.RecordLayout_RECORD_LAYOUT_AURORA
	}
	callCtx, cancel := context.WithTimeout(ctx, connect.Patience)
	defer cancel()
	out, err := control.StartStream(callCtx, in)
	if err != nil {
		return connect.Explain("starting the stream of "+c.Cluster, err)
	}
	st := out.GetStream()
	if c.Wait {
		if _, err = Await(ctx, control, c.Cluster, controlv1.StreamStatus_STREAM_STATUS_STARTED, c.Timeout); err != nil {
			return err
		}
		if st, err = AwaitCarriedOut(ctx, control, c.Cluster, c.Timeout); err != nil {
			return err
		}
	}
	return c.print(s, st)
}

// Stop is `weir stream stop`.
type Stop struct {
	DeleteKinesisStream bool          `help:"Delete the Kinesis stream too, with what nobody has read yet."`
	Wait                bool          `help:"Return when the stream is stopped."`
	Timeout             time.Duration `default:"2m" help:"How long --wait waits."`
	target              `embed:""`
}

// Run stops the stream.
func (c Stop) Run(ctx context.Context, s terminal.Streams) error {
	control, conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	callCtx, cancel := context.WithTimeout(ctx, connect.Patience)
	defer cancel()
	out, err := control.StopStream(callCtx, &controlv1.StopStreamRequest{ClusterId: c.Cluster, DeleteKinesisStream: c.DeleteKinesisStream})
	if err != nil {
		return connect.Explain("stopping the stream of "+c.Cluster, err)
	}
	st := out.GetStream()
	if c.Wait {
		if st, err = Await(ctx, control, c.Cluster, controlv1.StreamStatus_STREAM_STATUS_STOPPED, c.Timeout); err != nil {
			return err
		}
	}
	return c.print(s, st)
}

func (t target) print(s terminal.Streams, st *controlv1.Stream) error {
	if t.JSON {
		return connect.PrintJSON(s.Out, st)
	}
	return cluster.PrintStream(s.Out, st)
}

// Status is `weir stream status`.
type Status struct {
	target `embed:""`
}

// Run shows the stream.
func (c Status) Run(ctx context.Context, s terminal.Streams) error {
	control, conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, connect.Patience)
	defer cancel()
	out, err := control.GetStream(ctx, &controlv1.GetStreamRequest{ClusterId: c.Cluster})
	if err != nil {
		return connect.Explain("asking for the stream of "+c.Cluster, err)
	}
	if c.JSON {
		return connect.PrintJSON(s.Out, out)
	}
	if err := cluster.PrintStream(s.Out, out.GetStream()); err != nil {
		return err
	}
	if err := cluster.PrintInstances(s.Out, out.GetInstances()); err != nil {
		return err
	}
	windows, err := c.windows(ctx)
	if err != nil { // the stream is not the notifier's
		fmt.Fprintf(s.Err, "weir: what was lost is not known: %v\n", err)
		return nil
	}
	return cluster.PrintWindows(s.Out, windows, 3)
}

// windows asks the notifier what is lost, and was.
func (c Status) windows(ctx context.Context) ([]*notifierv1.Window, error) {
	file, err := c.Resolve()
	if err != nil {
		return nil, err
	}
	conn, err := file.Notifier()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	out, err := notifierv1.NewNotifierServiceClient(conn).ListWindows(ctx, &notifierv1.ListWindowsRequest{ClusterId: c.Cluster})
	if err != nil {
		return nil, connect.Explain("listing windows", err)
	}
	return out.GetWindows(), nil
}
