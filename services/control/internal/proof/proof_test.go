package proof_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/services/control/internal/proof"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	lazy   = fault.As(fault.Invalid, errors.New("set sync_interval: always in nats-1"))
	silent = fault.As(fault.NotReady, errors.New("no answer from nats-2"))
)

// A server that says no is a problem at once, one that says nothing after a while.
func TestProblem(t *testing.T) {
	var answer error
	p := proof.New(func(context.Context) error { return answer }, slog.New(slog.DiscardHandler))
	for i, step := range []struct {
		answer error
		want   string
	}{
		{nil, ""}, {lazy, "nats-1"}, {nil, ""},
		{silent, ""}, {silent, ""}, {silent, "nats-2"}, {silent, "nats-2"}, {nil, ""},
		{silent, ""}, {lazy, "nats-1"}, {silent, "nats-1"}, {nil, ""},
	} {
		answer = step.answer
		if err := p.Ask(t.Context()); !errors.Is(err, step.answer) {
			t.Errorf("step %d: Ask = %v, want %v", i, err, step.answer)
		}
		if got := p.Problem(); !strings.Contains(got, step.want) || (got == "") != (step.want == "") {
			t.Errorf("step %d: Problem = %q, want %q in it", i, got, step.want)
		}
	}
}

func TestRunAsksWhenItMayHaveChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		var wanted atomic.Bool
		var answer atomic.Pointer[error]
		p := proof.New(func(context.Context) error {
			asked.Add(1)
			if err := answer.Load(); err != nil {
				return *err
			}
			return nil
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		reconnected := make(chan nats.Status, 1)
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx, reconnected, wanted.Load) }()
		expect := func(what string, least, most int64) {
			t.Helper()
			synctest.Wait()
			if n := asked.Swap(0); n < least || n > most {
				t.Errorf("%s: asked %d times, want %d to %d", what, n, least, most)
			}
		}
		time.Sleep(10 * time.Minute)
		expect("nothing synchronous", 0, 0)
		wanted.Store(true)
		time.Sleep(10 * time.Minute)
		expect("ten quiet minutes", 10, 40)
		reconnected <- nats.CONNECTED
		expect("a reconnection", 1, 1)
		answer.Store(&silent)
		reconnected <- nats.CONNECTED
		time.Sleep(10 * time.Second)
		expect("ten seconds of silence", 3, 20)
		answer.Store(nil)
		time.Sleep(time.Minute)
		if asked.Store(0); p.Problem() != "" {
			t.Errorf("Problem = %q once the servers answer, want none", p.Problem())
		}
		close(reconnected)
		time.Sleep(10 * time.Minute)
		expect("a connection that was closed", 10, 40)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
}
