package faults

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

const (
	// smallRing lasts a second or two under the workload.
	smallRing = 128 << 10
	// littleRoom is left in a ring that is as good as full.
	littleRoom = 8 << 10
	// overflow is so many statements that littleRoom does not hold a tenth of them.
	overflow = 400
)

// Full is what the suite breaks of a world with a spool: in the end no part has
// room for what is executed, and events are lost.
func Full() []Fault {
	return []Fault{
		{"the disk of the spool full, crypto killed", mesh.Crypto, func(w *World, _ *rand.Rand) func() {
			free, isFull := w.fillSpool()
			w.Mesh.Kill(mesh.Crypto)
			w.overflow(isFull)
			return func() {
				free()
				w.Mesh.StartProcess(mesh.Crypto)
			}
		}},
		{"the disks of the journal and of the spool full", mesh.NATS, func(w *World, _ *rand.Rand) func() {
			free, isFull := w.fillSpool()
			mend := w.fillJournal(4 << 10)
			w.overflow(isFull)
			return func() {
				free()
				mend()
			}
		}},
	}
}

// fillSpool leaves the spool's disk room for some records. isFull says whether the
// spool has found it full since.
func (w *World) fillSpool() (free func(), isFull func() error) {
	w.T.Helper()
	mesh.Eventually(w.T, time.Minute, func() error { // without a key it takes nothing, full or not
		_, err := os.Stat(filepath.Join(w.spool, "spool", "public.key"))
		return err
	})
	said := func() int {
		log, err := os.ReadFile(w.Mesh.Path(mesh.Capture + ".log"))
		if err != nil {
			w.T.Fatal(err)
		}
		n := 0
		for line := range bytes.Lines(log) {
			if bytes.Contains(line, []byte("the spool takes nothing")) && bytes.Contains(line, []byte("no space left on device")) {
				n++
			}
		}
		return n
	}
	before := said()
	return mesh.FillDisk(w.T, w.spool, 64<<10), func() error {
		if n := said(); n == before {
			return errors.New("the spool has not found its disk full")
		}
		return nil
	}
}

// overflow waits until the spool is full, and then the ring, and then until so much
// was executed that some of it is lost.
func (w *World) overflow(isFull func() error) {
	w.T.Helper()
	mesh.Eventually(w.T, time.Minute, func() error {
		if err := isFull(); err != nil {
			return err
		}
		n, err := w.Mesh.Numbers()
		if err == nil && n.RingBytes-n.RingUsed > littleRoom {
			err = fmt.Errorf("%d of %d bytes of the ring are taken", n.RingUsed, n.RingBytes)
		}
		return err
	})
	w.completed(overflow)
}

// CheckLoss is Check where something must have been lost: the engine, the stream
// and the notifier say the same of how much, and what is told as lost is not there.
func (w *World) CheckLoss() {
	w.T.Helper()
	account, numbers := w.Check()
	if len(account.Told) == 0 {
		w.T.Error("nothing was lost: the test proves nothing")
	}
	for n, cause := range account.Told {
		_, event := account.Events[n]
		if _, beside := account.Beside[n]; event || beside || cause != "ring_full" {
			w.T.Errorf("number %d is told as %s, and it is there: %v", n, cause, event || beside)
		}
	}
	told := uint64(len(account.Told))
	if got := uint64(account.Kept()) + told; got != numbers.Number || numbers.Lost != told {
		w.T.Errorf("%d numbers are there and %d told as lost of %d; capture says %d lost", account.Kept(), told, numbers.Number, numbers.Lost)
	}
	mesh.Eventually(w.T, time.Minute, func() error {
		answer := &notifierv1.ListWindowsResponse{}
		if err := protojson.Unmarshal([]byte(w.Mesh.MustWeir("events", "windows", "--json")), answer); err != nil {
			return err
		}
		sum := uint64(0)
		for _, window := range answer.GetWindows() {
			if window.GetCause() == notifierv1.Cause_CAUSE_RING_FULL && window.GetEpoch() == numbers.Epoch {
				sum += window.GetCount()
			}
		}
		if sum != told {
			return fmt.Errorf("the notifier's windows count %d lost, the stream tells of %d", sum, told)
		}
		return nil
	})
}
