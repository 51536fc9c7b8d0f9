package grpcapi

import (
	"context"
	"fmt"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
)

// The engines that the schema names. This version has a module for one of them.
const capturedEngine = "postgres"

func checkEngine(engine string) error {
	switch engine {
	case capturedEngine:
		return nil
	case "mariadb", "mysql", "aurora-postgresql", "aurora-mysql":
		return fault.As(fault.Invalid, fmt.Errorf("engine %s: cannot be captured in this version, which supports %s", engine, capturedEngine))
	}
	return fault.As(fault.Invalid, fmt.Errorf("engine %.64q: unknown, this version supports %s", engine, capturedEngine))
}

// CreateCluster registers a cluster.
func (s *Server) CreateCluster(ctx context.Context, req *controlv1.CreateClusterRequest) (*controlv1.CreateClusterResponse, error) {
	if err := admit(ctx, people, "CreateCluster"); err != nil {
		return nil, err
	}
	// Told apart before it is put in lower case: see Registry.Get.
	if registry.IsClusterResourceID(req.GetClusterId()) {
		return nil, fault.As(fault.Invalid, fmt.Errorf("cluster_id %s: looks like a resource id, which Weir makes itself", req.GetClusterId()))
	}
	id, err := registry.ClusterID(req.GetClusterId())
	if err != nil {
		return nil, err
	}
	if err := checkEngine(req.GetEngine()); err != nil {
		return nil, err
	}
	c, err := s.reg.Create(ctx, id, req.GetEngine(), s.now())
	if err != nil {
		return nil, err
	}
	s.log.Info("cluster registered", obs.KeyCluster, c.ID, "resource", c.ResourceID)
	return &controlv1.CreateClusterResponse{Cluster: s.cluster(c, nil)}, nil
}

// GetCluster returns one cluster.
func (s *Server) GetCluster(ctx context.Context, req *controlv1.GetClusterRequest) (*controlv1.GetClusterResponse, error) {
	if err := admit(ctx, people, "GetCluster"); err != nil {
		return nil, err
	}
	id := req.GetClusterId()
	if !registry.IsClusterResourceID(id) {
		var err error
		if id, err = registry.ClusterID(id); err != nil {
			return nil, err
		}
	}
	c, err := s.reg.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	reports, err := s.reg.Reports(ctx, c)
	if err != nil {
		return nil, err
	}
	return &controlv1.GetClusterResponse{Cluster: s.cluster(c, reports)}, nil
}

// ListClusters returns all clusters, by id.
func (s *Server) ListClusters(ctx context.Context, _ *controlv1.ListClustersRequest) (*controlv1.ListClustersResponse, error) {
	if err := admit(ctx, people, "ListClusters"); err != nil {
		return nil, err
	}
	all, err := s.reg.List(ctx)
	if err != nil {
		return nil, err
	}
	resp := &controlv1.ListClustersResponse{}
	for _, c := range all {
		reports, err := s.reg.Reports(ctx, c)
		if err != nil {
			return nil, err
		}
		resp.Clusters = append(resp.Clusters, s.cluster(c, reports))
	}
	return resp, nil
}

// DeleteCluster forgets a cluster whose stream has stopped and of which every
// event has been told.
func (s *Server) DeleteCluster(ctx context.Context, req *controlv1.DeleteClusterRequest) (*controlv1.DeleteClusterResponse, error) {
	if err := admit(ctx, people, "DeleteCluster"); err != nil {
		return nil, err
	}
	id, err := registry.ClusterID(req.GetClusterId())
	if err != nil {
		return nil, err
	}
	err = s.reg.Delete(ctx, id, func(c registry.Cluster) error {
		if c.Stream.Status != registry.Stopped {
			return fault.As(fault.Conflict, fmt.Errorf("cluster %s: its stream is %s, stop it first", id, c.Stream.Status))
		}
		if n := len(c.Stream.Notices); n > 0 {
			return fault.As(fault.NotReady, fmt.Errorf("cluster %s: %d events about it have not reached the notifier yet", id, n))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("cluster deleted", obs.KeyCluster, id)
	return &controlv1.DeleteClusterResponse{}, nil
}

// CreateInstance registers an instance. In a cluster whose stream runs, its
// capture is told to record as soon as it watches.
func (s *Server) CreateInstance(ctx context.Context, req *controlv1.CreateInstanceRequest) (*controlv1.CreateInstanceResponse, error) {
	if err := admit(ctx, people, "CreateInstance"); err != nil {
		return nil, err
	}
	cluster, id, err := ids(req)
	if err != nil {
		return nil, err
	}
	in, err := s.reg.AddInstance(ctx, cluster, id)
	if err != nil {
		return nil, err
	}
	s.log.Info("instance registered", obs.KeyCluster, cluster, obs.KeyInstance, id, "resource", in.ResourceID)
	return &controlv1.CreateInstanceResponse{Instance: instance(in, nil)}, nil
}

// DeleteInstance forgets an instance. While the cluster's stream runs, an
// instance whose capture lives is kept: it would go on recording as nobody's.
func (s *Server) DeleteInstance(ctx context.Context, req *controlv1.DeleteInstanceRequest) (*controlv1.DeleteInstanceResponse, error) {
	if err := admit(ctx, people, "DeleteInstance"); err != nil {
		return nil, err
	}
	cluster, id, err := ids(req)
	if err != nil {
		return nil, err
	}
	err = s.reg.RemoveInstance(ctx, cluster, id, func(c registry.Cluster, in registry.Instance) error {
		if c.Stream.Status == registry.Stopped {
			return nil
		}
		rep, err := s.reg.Report(ctx, in)
		if err != nil {
			return err
		}
		if rep != nil && s.now().Sub(rep.GetReportedAt().AsTime()) <= s.lim.LiveFor {
			return fault.As(fault.Conflict, fmt.Errorf("instance %s: the stream is %s and its capture reports, stop one of them first (a capture counts as gone after %v)", id, c.Stream.Status, s.lim.LiveFor))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("instance deleted", obs.KeyCluster, cluster, obs.KeyInstance, id)
	return &controlv1.DeleteInstanceResponse{}, nil
}

// ids checks both ids of a request that names an instance.
func ids(req interface {
	GetClusterId() string
	GetInstanceId() string
}) (cluster, instance string, err error) {
	if cluster, err = registry.ClusterID(req.GetClusterId()); err != nil {
		return "", "", err
	}
	instance, err = registry.InstanceID(req.GetInstanceId())
	return cluster, instance, err
}
