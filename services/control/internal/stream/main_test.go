package stream_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// A stream's whole life takes a dozen steps, and what is hard to get right
	// happens in the second.
	if err := flag.Set("rapid.steps", "60"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}
