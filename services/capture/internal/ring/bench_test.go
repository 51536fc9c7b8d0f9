package ring_test

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/weir-das/weir/services/capture/internal/ring"
	"github.com/weir-das/weir/services/capture/internal/ring/ringtest"
)

// BenchmarkPut is what a session of the engine pays, measured in C: the figure is ns/put. Those of several writers count
// the time in which others had the processor.
func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 4} {
		for _, length := range []int{100, 400, 2000} {
			b.Run(fmt.Sprintf("writers=%d/bytes=%d", writers, length), func(b *testing.B) {
				path, bench := memoryPath(b), program(b, "bench")
				b.ResetTimer()
				out, err := exec.Command(bench, path, fmt.Sprint(writers), fmt.Sprint(b.N), fmt.Sprint(length)).Output()
				if err != nil {
					b.Fatal(err)
				}
				var ns float64
				var lost uint64
				if _, err := fmt.Sscan(string(out), &ns, &lost); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(ns, "ns/put")
				b.ReportMetric(100*float64(lost)/float64(writers*b.N), "%lost")
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, length := range []int{100, 400, 2000} {
		b.Run(fmt.Sprintf("bytes=%d", length), func(b *testing.B) {
			w := ringtest.Create(b, 16<<20)
			r := open(b, w.Path)
			reader := r.Reader()
			payload := make([]byte, length)
			b.SetBytes(int64(length))
			for left := b.N; left > 0; {
				b.StopTimer()
				count := 0
				for ; count < left; count++ {
					if _, ok := w.Put(payload, at(1)); !ok {
						break
					}
				}
				b.StartTimer()
				for range count {
					if item, err := reader.Next(); err != nil || item.Kind != ring.Event {
						b.Fatalf("Next = %s, %v", words(item), err)
					}
				}
				left -= count
				b.StopTimer()
				for next(b, reader) != "nothing" { // the gap
				}
				checkpoint(b, r, reader)
				b.StartTimer()
			}
		})
	}
}
