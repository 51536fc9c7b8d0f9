package crypto_test

import (
	"bytes"
	"fmt"
	"testing"

	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
)

// BenchmarkStream measures the whole hop: gRPC over mTLS, gzip, encryption, a
// synced publish, the acknowledgement back; one stream, 16 records of 100 KB in
// flight. It stands on one machine with its NATS, whose disk is part of it.
func BenchmarkStream(b *testing.B) {
	w := newWorld(b)
	w.maxBytes = 32 << 30
	client, _ := w.replica()
	stream, err := client.Seal(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if err := stream.Send(&cryptov1.SealRequest{Message: &cryptov1.SealRequest_Open{Open: w.open()}}); err != nil {
		b.Fatal(err)
	}
	var text []byte
	for i := 0; len(text) < 100_000; i++ {
		text = fmt.Appendf(text, `{"startTime":"2026-01-02 03:04:05.%06d+00","statementId":%d,"command":"SELECT","objectName":"public.pgbench_accounts","databaseName":"bench","dbUserName":"app","commandText":"SELECT abalance FROM pgbench_accounts WHERE aid = $1;","paramList":["%d"],"type":"record"},`, i*137%1000000, i, i*7919%1000000)
	}
	b.SetBytes(int64(len(text)))
	b.ResetTimer()
	done := make(chan error, 1)
	room := make(chan struct{}, window)
	go func() {
		for n := 1; n <= b.N; n++ {
			room <- struct{}{}
			r := record(uint64(n), n)
			r.Plaintext = bytes.Clone(text)
			if err := stream.Send(&cryptov1.SealRequest{Message: &cryptov1.SealRequest_Record{Record: r}}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for acked := 0; acked < b.N; {
		answer, err := stream.Recv()
		if err != nil {
			b.Fatal(err)
		}
		for ; acked < int(answer.GetDurableThrough()); acked++ {
			<-room
		}
	}
	b.StopTimer()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	_ = stream.CloseSend()
}
