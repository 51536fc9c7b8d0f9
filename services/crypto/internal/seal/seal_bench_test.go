package seal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/esdk"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/crypto/internal/keys"
)

// pgbench renders n events of what pgbench does (TPC-B, prepared statements,
// 32 sessions), which is what a busy server's stream looks like: statements that
// repeat, values and times that do not.
func pgbench(n int, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	type statement struct {
		command, object, text string
		params                int
	}
	statements := []statement{
		{"BEGIN", "", "BEGIN;", 0},
		{"UPDATE", "public.pgbench_accounts", "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2;", 2},
		{"SELECT", "public.pgbench_accounts", "SELECT abalance FROM pgbench_accounts WHERE aid = $1;", 1},
		{"UPDATE", "public.pgbench_tellers", "UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2;", 2},
		{"UPDATE", "public.pgbench_branches", "UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2;", 2},
		{"INSERT", "public.pgbench_history", "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP);", 4},
		{"COMMIT", "", "END;", 0},
	}
	var list []byte
	var numbers []uint64
	for i := range n {
		st := statements[i%len(statements)]
		session := rng.IntN(32)
		begin := at.Add(time.Duration(i)*150*time.Microsecond + time.Duration(rng.IntN(100_000)))
		e := das.Event{
			StartTime: begin, LogTime: begin.Add(time.Duration(rng.IntN(900)) * time.Microsecond),
			StatementID: uint64(1000 + i/7), SubstatementID: 1,
			Command: st.command, DatabaseName: "bench", DBUserName: "app",
			RemoteHost: "10.0.3.17", RemotePort: fmt.Sprint(40000 + session),
			SessionID: fmt.Sprintf("6957%04x.%x", session*7, 5000+session), RowCount: das.Some(int64(1)),
			CommandText: das.Some(st.text), PID: int64(5000 + session), ClientApp: das.Some("pgbench"),
			Class: "WRITE", ServerVersion: "17.2", ServerType: "PostgreSQL", ServiceName: "postgres",
			ServerHost: "db1.internal", NetProtocol: "TCP", DBProtocol: "Postgres 3.0", Type: das.TypeRecord,
		}
		if st.object != "" {
			e.ObjectType, e.ObjectName = das.Some("TABLE"), das.Some(st.object)
		}
		for range st.params {
			e.ParamList = append(e.ParamList, das.Some(fmt.Sprint(rng.IntN(1_000_000)-5000)))
		}
		if i > 0 {
			list = append(list, ',')
		}
		list = e.Append(list)
		numbers = append(numbers, uint64(1_000_000+i))
	}
	return das.AppendRecord(nil, "cluster-ABCDEFGHIJKLMNOPQRSTUVWXYZ", "db-ABCDEFGHIJKLMNOPQRSTUVWXYZ", list,
		&das.Extension{Epoch: 1767323045000000, Numbers: numbers, Prev: das.Hash{1}, Last: das.Hash{2}})
}

type oneKey struct{ key *keys.Key }

func (k oneKey) Get(context.Context, string, string, int) (*keys.Key, error) { return k.key, nil }

// sink is a journal that has everything on disk at once.
type sink struct{ bytes int }

func (s *sink) Publish(_ context.Context, m journal.Message) error {
	s.bytes = len(m.Data)
	return nil
}

// BenchmarkSeal measures what crypto itself costs, on one core, without journal
// and network: gzip, encryption, base64. ratio is clear text by sealed record.
func BenchmarkSeal(b *testing.B) {
	const events = 140 // about 100 KiB
	key := &keys.Key{Sealer: esdk.NewSealer(&esdk.Key{1}), Ciphertext: make([]byte, 184)}
	open := &cryptov1.SealOpen{
		ClusterResourceId: "cluster-ABCDEFGHIJKLMNOPQRSTUVWXYZ", InstanceResourceId: "db-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
		KmsKeyId: "k", KinesisStream: "s", Version: "1.1",
	}
	for _, level := range []int{1, 2, 3, 4, 5, 6, 9} {
		b.Run(fmt.Sprintf("gzip=%d", level), func(b *testing.B) {
			var out sink
			s, err := newSealer(oneKey{key}, &out, obs.Discard().Tracer, 1, level)
			if err != nil {
				b.Fatal(err)
			}
			record := &cryptov1.SealRecord{Sequence: 1, Plaintext: pgbench(events, 7), PartitionKey: "p", MessageId: "1"}
			b.SetBytes(int64(len(record.Plaintext)))
			b.ReportAllocs()
			for b.Loop() {
				if err := s.seal(b.Context(), open, record); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(events*b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(len(record.Plaintext))/float64(out.bytes), "ratio")
			b.ReportMetric(float64(len(record.Plaintext))/events, "B/event")
		})
	}
}
