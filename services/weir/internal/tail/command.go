package tail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// Command is `weir tail`.
type Command struct {
	Cluster    string `xor:"source" placeholder:"ID" help:"The cluster whose stream to read, by id or resource id. The default is the connect file's."`
	Stream     string `xor:"source" placeholder:"NAME" help:"The Kinesis stream to read. Needs no control, only AWS."`
	Format     Format `enum:"text,json,das" default:"text" help:"text: a line of words for each event. json: one event object a line. das: one inner record a line. The last two byte for byte as the stream has them."`
	From       string `placeholder:"POSITION" help:"Where to begin: trim-horizon, latest, a time such as 2026-01-31T15:04:05Z, or how long ago such as 15m. Default: latest, with --no-follow trim-horizon."`
	NoFollow   bool   `help:"End when everything is read that is there."`
	Heartbeats bool   `help:"Show heartbeats too."`
	Color      string `enum:"auto,always,never" default:"auto" help:"Colours in text: auto, always or never."`

	connect.Flags `embed:""`
}

// Help is shown by --help.
func (Command) Help() string {
	return `Reads an activity stream as any consumer does, with Kinesis and KMS, and prints it decrypted. Needs kinesis:ListShards, kinesis:GetShardIterator, kinesis:GetRecords and kms:Decrypt. Works on Aurora's own streams too (--stream).

Gaps that the stream tells of are printed; with --format json on standard error. A record that does not open is told on standard error, counted, and makes the exit status 1.

Examples:
  weir tail                                    follow the mesh that weir dev runs here
  weir tail --from trim-horizon --no-follow    everything that the stream holds
  weir tail --format json | jq 'select(.class == "DDL")'
  weir tail --from 15m --cluster orders --connect mesh.json
  weir tail --stream aws-rds-das-cluster-A6TSYXITZCZXJHIRVFUBZ5LTWY --region eu-west-1`
}

// Validate checks what can be checked without a mesh.
func (c Command) Validate() error {
	_, err := c.position()
	return err
}

func (c Command) position() (Position, error) {
	switch {
	case c.From != "":
		return ParsePosition(c.From, time.Now())
	case c.NoFollow:
		return TrimHorizon, nil // from latest there would be nothing to read
	default:
		return Latest, nil
	}
}

// Run reads the stream and prints it.
func (c Command) Run(ctx context.Context, s terminal.Streams) error {
	file, err := c.Resolve()
	if err != nil {
		return err
	}
	stream, resource, err := Find(ctx, file, c.Cluster, c.Stream)
	if err != nil {
		return err
	}
	cfg, err := file.AWS(ctx)
	if err != nil {
		return err
	}
	from, err := c.position()
	if err != nil {
		return err
	}

	style := terminal.StyleOf(s.Out)
	if c.Color != "auto" {
		style.Color = c.Color == "always"
	}
	printer := NewPrinter(s, style, c.Format, c.Heartbeats)
	refusals := NewRefusals(s.Err)
	var finish chan struct{}
	if c.NoFollow {
		finish = make(chan struct{})
		close(finish)
	}
	sum, err := Run(ctx, Options{
		Kinesis: kinesis.NewFromConfig(cfg), KMS: kms.NewFromConfig(cfg),
		Stream: stream, ResourceID: resource, From: from, Finish: finish,
		Take: printer.Record, Refuse: refusals.Refuse,
		Log: slog.New(slog.NewTextHandler(s.Err, nil)),
	})
	if err != nil {
		return err
	}
	if sum.Refused > 0 {
		return fmt.Errorf("%s of %d could not be opened", count(sum.Refused, "record"), sum.Records+sum.Refused)
	}
	return nil
}

// Find says which Kinesis stream to read and whose it is: the one named, or that
// of a cluster, or the connect file's. Control is asked only where a cluster is
// named that the connect file does not describe.
func Find(ctx context.Context, file connect.File, cluster, name string) (stream, resource string, err error) {
	switch {
	case name != "":
		resource, err := ResourceOf(name)
		return name, resource, err
	case file.KinesisStream != "" && (cluster == "" || cluster == file.ClusterID || cluster == file.ClusterResourceID):
		return file.KinesisStream, file.ClusterResourceID, nil
	case cluster == "" && file == (connect.File{}):
		return "", "", connect.ErrNoMesh
	case cluster == "" && file.ClusterID != "":
		cluster = file.ClusterID // described by its name alone
	case cluster == "":
		return "", "", errors.New("no stream named: use --cluster ID, or --stream NAME")
	}
	conn, err := file.Control()
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, connect.Patience)
	defer cancel()
	out, err := controlv1.NewControlServiceClient(conn).GetCluster(ctx, &controlv1.GetClusterRequest{ClusterId: cluster})
	if err != nil {
		return "", "", connect.Explain("asking control for cluster "+cluster, err)
	}
	found := out.GetCluster()
	if found.GetStream().GetKinesisStream() == "" {
		return "", "", fmt.Errorf("cluster %s has no activity stream: start one with `weir stream start --cluster %s`", cluster, cluster)
	}
	return found.GetStream().GetKinesisStream(), found.GetClusterResourceId(), nil
}
