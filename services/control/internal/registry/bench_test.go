package registry_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
	"github.com/weir-das/weir/services/control/internal/registry/registrytest"
)

// What a report costs, which comes every second from every instance.
func BenchmarkPutReport(b *testing.B) {
	reg := registrytest.Start(b).Open(registry.Options{})
	rep := &controlv1.InstanceReport{ReportedAt: timestamppb.New(now), Generation: 3, EngineRunning: true, EngineVersion: "PostgreSQL 15.20", Epoch: 1, Number: 1 << 30, Durable: 1 << 30}
	var n atomic.Int64
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		in := registry.Instance{ID: "db", ResourceID: fmt.Sprintf("db-%d", n.Add(1))}
		for pb.Next() {
			if err := reg.PutReport(context.Background(), in, rep); err != nil {
				b.Errorf("PutReport = %v", err)
				return
			}
		}
	})
}
