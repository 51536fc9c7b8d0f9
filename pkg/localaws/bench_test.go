package localaws_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"

	"github.com/weir-das/weir/pkg/localaws"
)

// BenchmarkPutRecords is the publisher's way of putting: about a MiB a call, over loopback.
func BenchmarkPutRecords(b *testing.B) {
	for _, size := range []int{1 << 10, 8 << 10, 200 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			_, url := serve(b, localaws.Options{MaxBytes: 1 << 40})
			call(b, url, "Kinesis_20131202.CreateStream", `{"StreamName":"s","ShardCount":4}`)
			n := max(1, min(500, 1<<20/size))
			data := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x5a}, size))
			var body bytes.Buffer
			body.WriteString(`{"StreamName":"s","Records":[`)
			for i := range n {
				if i > 0 {
					body.WriteByte(',')
				}
				fmt.Fprintf(&body, `{"PartitionKey":"instance-%d","Data":"%s"}`, i, data)
			}
			body.WriteString(`]}`)
			b.SetBytes(int64(n * size))
			b.ReportAllocs()
			puts := 0
			for b.Loop() {
				resp, got := do(b, request(b, url, "Kinesis_20131202.PutRecords", contentJSON, body.Bytes()))
				if resp.StatusCode != http.StatusOK {
					b.Fatalf("PutRecords = %s %s", resp.Status, got)
				}
				if puts++; puts%200 == 0 { // not to fill the machine
					call(b, url, "Kinesis_20131202.DeleteStream", `{"StreamName":"s"}`)
					call(b, url, "Kinesis_20131202.CreateStream", `{"StreamName":"s","ShardCount":4}`)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkGetRecords reads a MiB a call.
func BenchmarkGetRecords(b *testing.B) {
	_, url := serve(b, localaws.Options{})
	call(b, url, "Kinesis_20131202.CreateStream", `{"StreamName":"s","ShardCount":1}`)
	data := base64.StdEncoding.EncodeToString(make([]byte, 8<<10))
	for range 128 {
		call(b, url, "Kinesis_20131202.PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"%s"}`, data)
	}
	it := call(b, url, "Kinesis_20131202.GetShardIterator", `{"StreamName":"s","ShardId":"0","ShardIteratorType":"TRIM_HORIZON"}`)["ShardIterator"]
	body := fmt.Appendf(nil, `{"ShardIterator":%q}`, it)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if resp, _ := do(b, request(b, url, "Kinesis_20131202.GetRecords", contentJSON, body)); resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status)
		}
	}
}
