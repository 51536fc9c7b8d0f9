// Package cluster is `weir cluster` and `weir instance`: what control knows of
// databases, as commands.
//
// Before: a person or a script.
// Next: services/control, over gRPC.
package cluster

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// Command is `weir cluster`.
type Command struct {
	Create Create `cmd:"" help:"Register a cluster."`
	List   List   `cmd:"" help:"List the clusters."`
	Show   Show   `cmd:"" help:"Show a cluster, its instances and its stream."`
	Delete Delete `cmd:"" help:"Forget a cluster. Its stream must be stopped."`
}

// InstanceCommand is `weir instance`.
type InstanceCommand struct {
	Add    Add    `cmd:"" help:"Register an instance in a cluster."`
	Remove Remove `cmd:"" help:"Forget an instance."`
}

// call runs f with a client of control, with a deadline.
func call(ctx context.Context, flags connect.Flags, f func(context.Context, controlv1.ControlServiceClient) error) error {
	file, err := flags.Resolve()
	if err != nil {
		return err
	}
	conn, err := file.Control()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, connect.Patience)
	defer cancel()
	return f(ctx, controlv1.NewControlServiceClient(conn))
}

// Create is `weir cluster create`.
type Create struct {
	ID            string `arg:"" name:"cluster" help:"1 to 63 letters, digits and hyphens."`
	Engine        string `default:"postgres" help:"postgres is the one that this version can capture."`
	JSON          bool   `help:"Print the cluster as JSON."`
	connect.Flags `embed:""`
}

// Help is shown by --help.
func (Create) Help() string {
	return `Gives the cluster its resource id, which names its Kinesis stream and is the encryption context of its data keys.

Examples:
  weir cluster create orders
  weir instance add orders orders-1
  weir stream start --cluster orders --kms-key alias/orders --wait`
}

// Run registers the cluster.
func (c Create) Run(ctx context.Context, s terminal.Streams) error {
	return call(ctx, c.Flags, func(ctx context.Context, control controlv1.ControlServiceClient) error {
		out, err := control.CreateCluster(ctx, &controlv1.CreateClusterRequest{ClusterId: c.ID, Engine: c.Engine})
		if err != nil {
			return connect.Explain("registering cluster "+c.ID, err)
		}
		if c.JSON {
			return connect.PrintJSON(s.Out, out.GetCluster())
		}
		_, err = fmt.Fprintf(s.Out, "cluster %s is %s\n", c.ID, out.GetCluster().GetClusterResourceId())
		return err
	})
}

// List is `weir cluster list`.
type List struct {
	JSON          bool `help:"Print the answer as JSON."`
	connect.Flags `embed:""`
}

// Run lists the clusters.
func (c List) Run(ctx context.Context, s terminal.Streams) error {
	return call(ctx, c.Flags, func(ctx context.Context, control controlv1.ControlServiceClient) error {
		out, err := control.ListClusters(ctx, &controlv1.ListClustersRequest{})
		if err != nil {
			return connect.Explain("listing clusters", err)
		}
		if c.JSON {
			return connect.PrintJSON(s.Out, out)
		}
		var rows [][]string
		for _, k := range out.GetClusters() {
			rows = append(rows, []string{k.GetClusterId(), k.GetEngine(), StatusName(k.GetStream().GetStatus()),
				strconv.Itoa(len(k.GetInstances())), k.GetClusterResourceId()})
		}
		return terminal.Table(s.Out, []string{"CLUSTER", "ENGINE", "STREAM", "INSTANCES", "RESOURCE ID"}, rows)
	})
}

// Show is `weir cluster show`.
type Show struct {
	ID            string `arg:"" name:"cluster" help:"Its id, or its resource id."`
	JSON          bool   `help:"Print the cluster as JSON."`
	connect.Flags `embed:""`
}

// Run shows the cluster.
func (c Show) Run(ctx context.Context, s terminal.Streams) error {
	return call(ctx, c.Flags, func(ctx context.Context, control controlv1.ControlServiceClient) error {
		out, err := control.GetCluster(ctx, &controlv1.GetClusterRequest{ClusterId: c.ID})
		if err != nil {
			return connect.Explain("asking for cluster "+c.ID, err)
		}
		k := out.GetCluster()
		if c.JSON {
			return connect.PrintJSON(s.Out, k)
		}
		if _, err := fmt.Fprintf(s.Out, "cluster      %s\nresource id  %s\nengine       %s\nregistered   %s\n\n", k.GetClusterId(),
			k.GetClusterResourceId(), k.GetEngine(), k.GetCreatedAt().AsTime().Format("2006-01-02 15:04:05Z")); err != nil {
			return err
		}
		if err := PrintStream(s.Out, k.GetStream()); err != nil {
			return err
		}
		return PrintInstances(s.Out, k.GetInstances())
	})
}

// Delete is `weir cluster delete`.
type Delete struct {
	ID            string `arg:"" name:"cluster" help:"Its id."`
	connect.Flags `embed:""`
}

// Run forgets the cluster.
func (c Delete) Run(ctx context.Context, s terminal.Streams) error {
	return call(ctx, c.Flags, func(ctx context.Context, control controlv1.ControlServiceClient) error {
		if _, err := control.DeleteCluster(ctx, &controlv1.DeleteClusterRequest{ClusterId: c.ID}); err != nil {
			return connect.Explain("forgetting cluster "+c.ID, err)
		}
		_, err := fmt.Fprintf(s.Out, "cluster %s is forgotten\n", c.ID)
		return err
	})
}

// Add is `weir instance add`.
type Add struct {
	Cluster       string `arg:"" help:"The cluster."`
	ID            string `arg:"" name:"instance" help:"1 to 63 letters, digits and hyphens; unique among all clusters."`
	JSON          bool   `help:"Print the instance as JSON."`
	connect.Flags `embed:""`
}

// Run registers the instance.
func (c Add) Run(ctx context.Context, s terminal.Streams) error {
	return call(ctx, c.Flags, func(ctx context.Context, control controlv1.ControlServiceClient) error {
		out, err := control.CreateInstance(ctx, &controlv1.CreateInstanceRequest{ClusterId: c.Cluster, InstanceId: c.ID})
		if err != nil {
			return connect.Explain("registering instance "+c.ID, err)
		}
		if c.JSON {
			return connect.PrintJSON(s.Out, out.GetInstance())
		}
		_, err = fmt.Fprintf(s.Out, "instance %s of %s is %s\n", c.ID, c.Cluster, out.GetInstance().GetInstanceResourceId())
		return err
	})
}

// Remove is `weir instance remove`.
type Remove struct {
	Cluster       string `arg:"" help:"The cluster."`
	ID            string `arg:"" name:"instance" help:"The instance."`
	connect.Flags `embed:""`
}

// Run forgets the instance.
func (c Remove) Run(ctx context.Context, s terminal.Streams) error {
	return call(ctx, c.Flags, func(ctx context.Context, control controlv1.ControlServiceClient) error {
		if _, err := control.DeleteInstance(ctx, &controlv1.DeleteInstanceRequest{ClusterId: c.Cluster, InstanceId: c.ID}); err != nil {
			return connect.Explain("forgetting instance "+c.ID, err)
		}
		_, err := fmt.Fprintf(s.Out, "instance %s of %s is forgotten\n", c.ID, c.Cluster)
		return err
	})
}

// StatusName is Aurora's word for a stream's status.
func StatusName(s controlv1.StreamStatus) string { return word(s.String(), "STREAM_STATUS_") }

// word turns STREAM_STATUS_STARTED into started.
func word(name, prefix string) string {
	w := strings.ToLower(strings.TrimPrefix(name, prefix))
	if w == "unspecified" {
		return "-"
	}
	return w
}
