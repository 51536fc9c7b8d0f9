package relay

import (
	"context"
	"slices"
	"time"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/services/publisher/internal/kinesis"
)

func entry(l *loan) kinesis.Record {
	return kinesis.Record{PartitionKey: l.PartitionKey, Data: l.Data, ClusterID: l.ClusterID}
}

// put puts a batch and settles each record by Kinesis's answer. A request that
// Kinesis refuses for good is cut in two until the record at fault is alone.
func (ln *lane) put(batch []*loan) {
	records := make([]kinesis.Record, len(batch))
	for i, l := range batch {
		records[i] = entry(l)
	}
	began := time.Now()
	// What is on its way when the service stops is waited for; Put has a limit.
	results, err := ln.relay.kinesis.Put(context.WithoutCancel(ln.ctx), ln.stream, records)
	switch {
	case fault.Is(err, fault.Invalid) && len(batch) > 1:
		ln.put(batch[:len(batch)/2])
		ln.put(batch[len(batch)/2:])
		return
	case fault.Is(err, fault.Invalid):
		ln.refused(batch[0], err)
		return
	case err != nil:
		ln.failed(batch, err, true)
		return
	}
	var done, again []*loan
	for i, l := range batch {
		switch {
		case results[i] == nil:
			done = append(done, l)
		case fault.Is(results[i], fault.Invalid):
			ln.refused(l, results[i])
		default:
			again = append(again, l)
			err = results[i]
		}
	}
	ln.settle(done)
	for _, l := range done {
		ln.relay.accepted(l, began, len(batch))
	}
	if len(done) > 0 {
		ln.mu.Lock()
		ln.taken = time.Now()
		ln.mu.Unlock()
	}
	if len(again) > 0 {
		ln.failed(again, err, len(done) == 0)
		return
	}
	ln.succeeded()
}

// takenLately is how fresh the proof must be that a stream takes records.
const takenLately = 10 * time.Minute

// refused decides about a record that Kinesis refuses for a reason in the
// request. It is given up only when that is beyond doubt: because it breaks
// Kinesis's limits, or because the stream takes others. Otherwise it may be that
// the endpoint refuses everything, and the record goes back to the journal.
func (ln *lane) refused(l *loan, why error) {
	ln.mu.Lock()
	proof := !entry(l).Fits() || time.Since(ln.taken) < takenLately
	ln.mu.Unlock()
	if proof {
		ln.settle([]*loan{l})
		ln.relay.giveUp(l, why)
		return
	}
	ln.note(why, true)
	ln.giveBack([]*loan{l}, true)
}

// settle takes records out of what the lane holds.
func (ln *lane) settle(batch []*loan) {
	n := int64(0)
	for _, l := range batch {
		n += l.size()
	}
	ln.mu.Lock()
	ln.hold(-n)
	ln.mu.Unlock()
}

// giveBack returns records to the journal: to be delivered to another replica at
// once, or, when it is Kinesis that does not take them, after a while.
func (ln *lane) giveBack(batch []*loan, later bool) {
	ln.settle(batch)
	for _, l := range batch {
		if later {
			ln.relay.giveBack(l, after(l.Deliveries))
		} else {
			ln.relay.giveBack(l, 0)
		}
	}
}

// failed puts records back at the head of the queue, to be tried again after a
// pause, or, when memory is short, into the journal.
func (ln *lane) failed(batch []*loan, err error, stuck bool) {
	ln.note(err, stuck)
	ln.mu.Lock()
	crowded := ln.relay.crowded()
	if !crowded {
		ln.queue = slices.Insert(ln.queue, 0, batch...)
		for _, l := range batch {
			ln.queued += l.size()
		}
	}
	ln.mu.Unlock()
	ln.signal()
	if crowded {
		ln.giveBack(batch, true)
	}
}

// note remembers what went wrong and logs it when it is new.
func (ln *lane) note(err error, stuck bool) {
	ln.mu.Lock()
	ln.setFailing(true, stuck)
	pause := ln.partialRetry.Next()
	if stuck {
		pause = ln.stuckRetry.Next()
	} else {
		ln.stuckRetry.Reset()
	}
	ln.notBefore = time.Now().Add(pause)
	fresh := ln.trouble.text == "" || ln.trouble.kind != fault.Of(err)
	ln.trouble = trouble{text: err.Error(), kind: fault.Of(err), at: time.Now()}
	ln.mu.Unlock()
	if fresh {
		ln.relay.log.Warn("Kinesis does not take records; they wait in the journal", obs.KeyStream, ln.stream, obs.KeyErr, err)
	}
}

// succeeded notes a call that got everything through.
func (ln *lane) succeeded() {
	ln.mu.Lock()
	ln.setFailing(false, false)
	ln.stuckRetry.Reset()
	ln.partialRetry.Reset()
	ln.notBefore = time.Time{}
	over := ln.trouble.text != "" && time.Since(ln.trouble.at) > calmAfter
	if over {
		ln.trouble = trouble{}
	}
	ln.mu.Unlock()
	if over {
		ln.relay.log.Info("Kinesis takes records again", obs.KeyStream, ln.stream)
	}
}

// lastError is what is wrong, and since when; empty when all is well.
func (ln *lane) lastError() (string, time.Time) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.trouble.text == "" || !ln.failing && time.Since(ln.trouble.at) > calmAfter {
		return "", time.Time{}
	}
	return ln.trouble.text, ln.trouble.at
}
