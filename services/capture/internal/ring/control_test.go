package ring_test

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weir-das/weir/services/capture/internal/ring"
	"github.com/weir-das/weir/services/capture/internal/ring/ringtest"
)

func TestSettingsAreKeptWholeOrNotAtAll(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	r := open(t, w.Path)
	if _, err := r.Settings(); !errors.Is(err, ring.ErrNoSettings) {
		t.Errorf("Settings of a new ring = %v, want none", err)
	}
	for _, settings := range [][]byte{[]byte("some"), bytes.Repeat([]byte("x"), 4088), []byte("fewer")} {
		if err := r.SetSettings(settings); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Settings(); err != nil || !bytes.Equal(got, settings) {
			t.Errorf("Settings = %q, %v, want %q", got, err, settings)
		}
	}
	if err := r.SetSettings(make([]byte, 4089)); err == nil {
		t.Error("SetSettings took 4089 bytes")
	}
	w.Memory()[4104]++
	if _, err := r.Settings(); !errors.Is(err, ring.ErrNoSettings) {
		t.Errorf("Settings with a byte changed = %v, want none", err)
	}
	poke(w, 4096, 1<<31)
	if _, err := r.Settings(); !errors.Is(err, ring.ErrNoSettings) {
		t.Errorf("Settings of 2 GiB = %v, want none", err)
	}
}

func TestPolicyReachesTheEngine(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	r := open(t, w.Path)
	if err := r.SetPolicy(ring.Policy{Mode: ring.ModeSync, SyncLevel: 1, OnFailure: 2, SyncTimeout: 3 * time.Second, Generation: 12}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.SetHealthy(true), r.Seen(at(5))); err != nil {
		t.Fatal(err)
	}
	word := func(offset int) uint32 { return *(*uint32)(unsafe.Pointer(&w.Memory()[offset])) }
	told := ring.Policy{Mode: ring.ModeSync, SyncLevel: ring.LevelTransaction, OnFailure: ring.FailureFailOperation, SyncTimeout: 3 * time.Second, Generation: 12}
	if p, err := r.Policy(); err != nil || p != told {
		t.Errorf("Policy() = %+v, %v, want %+v", p, err, told)
	}
	if err := r.SetPolicy(ring.Policy{Mode: ring.ModeSync, SyncTimeout: time.Microsecond}); err == nil {
		t.Error("SetPolicy took a timeout that the ring cannot hold")
	}
	if w.Mode() != 3 || word(324) != 1 || word(328) != 2 || word(332) != 3000 || w.Generation() != 12 || word(296) != 1 {
		t.Errorf("the ring says mode %d, level %d, failure %d, timeout %d, generation %d, path %d",
			w.Mode(), word(324), word(328), word(332), w.Generation(), word(296))
	}
	if path, err := r.Path(); err != nil || path != ring.PathHealthy {
		t.Errorf("Path() = %d, %v, want healthy", path, err)
	}
	if err := r.SetHealthy(false); err != nil || word(296) != 2 {
		t.Errorf("after SetHealthy(false) = %v the path is %d", err, word(296))
	}
	if seen := *(*uint64)(unsafe.Pointer(&w.Memory()[288])); seen != uint64(at(5).UnixMicro()) {
		t.Errorf("capture was seen at %d", seen)
	}
}

func TestEngineState(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	r := open(t, w.Path)
	for _, step := range []struct {
		name string
		do   func()
		want ring.EngineState
	}{
		{"created", func() {}, ring.EngineRunning},
		{"killed", w.Kill, ring.EngineLost},
		{"restarted", w.Restart, ring.EngineRunning},
		{"stopped", w.Stop, ring.EngineStopped},
		{"restarted again", w.Restart, ring.EngineRunning},
	} {
		step.do()
		if got := status(t, r).State; got != step.want || r.EngineRunning() != (step.want == ring.EngineRunning) {
			t.Errorf("%s: state %d, want %d", step.name, got, step.want)
		}
	}
	if starts := status(t, r).Starts; starts != 3 {
		t.Errorf("Starts = %d, want 3", starts)
	}
}

func TestWait(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	reader := open(t, w.Path).Reader()
	word := func(offset int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&w.Memory()[offset])) }
	bell, sleeps := word(384), word(388)
	if begin := time.Now(); reader.Wait(t.Context(), 20*time.Millisecond) != nil || time.Since(begin) < 20*time.Millisecond {
		t.Errorf("Wait on an idle ring was over after %v", time.Since(begin))
	}
	// A session that waits for its record rings the bell when capture sleeps.
	rung := make(chan time.Time)
	go func() {
		for sleeps.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		w.Put(text(1), at(1))
		bell.Add(1)
		_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(bell)), 1, 1, 0, 0, 0)
		rung <- time.Now()
	}()
	if err := reader.Wait(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if late := time.Since(<-rung); late > time.Second {
		t.Errorf("Wait ended %v after the bell", late)
	}
	if sleeps.Load() != 0 {
		t.Error("the ring says that capture sleeps")
	}
	begin := time.Now()
	if err := reader.Wait(t.Context(), time.Minute); err != nil || time.Since(begin) > time.Second {
		t.Errorf("Wait with an event to read = %v after %v", err, time.Since(begin))
	}
	expect(t, reader, "1")
}

// A session waits in its number's group until durable has reached it.
func TestCheckpointWakesThoseItConcerns(t *testing.T) {
	w := ringtest.Create(t, 64<<10)
	r := open(t, w.Path)
	reader := r.Reader()
	for n := uint64(1); n <= 3; n++ {
		w.Put(text(n), at(n))
	}
	group := func(n int) (futex, waiters *atomic.Uint32) {
		at := 1024 + 8*(n%64)
		return (*atomic.Uint32)(unsafe.Pointer(&w.Memory()[at])), (*atomic.Uint32)(unsafe.Pointer(&w.Memory()[at+4]))
	}
	futex, waiters := group(2)
	woken := make(chan bool)
	go func() {
		waiters.Add(1)
		for {
			value := futex.Load()
			if w.Durable() >= 2 {
				break
			}
			_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(futex)), 0, uintptr(value), 0, 0, 0)
		}
		close(woken)
	}()
	for waiters.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	_, third := group(3)
	third.Add(1)
	expect(t, reader, "1")
	checkpoint(t, r, reader)
	if futex.Load() != 0 {
		t.Error("a checkpoint at 1 woke the group of 2")
	}
	expect(t, reader, "2")
	checkpoint(t, r, reader)
	<-woken
	if futex, _ := group(3); futex.Load() != 0 {
		t.Error("a checkpoint at 2 woke the group of 3")
	}
}
