package spool

import (
	"context"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/obs"
	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/capture/internal/outbox"
)

const (
	// inFlight is how many entries are on their way at a time.
	inFlight = 8
	// drainStreams is how many streams carry them.
	drainStreams = 2
	// again is how long a segment rests that could not be read or removed.
	again = time.Second
)

// Drain sends what is in the spool, the oldest first, until ctx ends. Delivered
// moves as the journal has it; a segment goes when it has all of it. delivered is
// called with the number of events of each entry.
func (s *Spool) Drain(ctx context.Context, crypto cryptov1.CryptoServiceClient, delivered func(events int)) error {
	for {
		seg := s.take()
		if seg == nil {
			select {
			case <-ctx.Done():
				return nil
			case <-s.more:
			}
			continue
		}
		err := s.drain(ctx, crypto, seg, delivered)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			s.log.Error("draining the spool; trying again", obs.KeyErr, err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(again):
			}
		}
	}
}

// take returns the oldest segment, to which nothing is added from now on; nil if
// there is none, or it is being written: then wake is called after that.
func (s *Spool) take() *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segments) == 0 || s.segments[0].writing || s.segments[0].size == 0 {
		return nil
	}
	s.segments[0].closed = true
	return s.segments[0]
}

// drain delivers a segment and removes it.
func (s *Spool) drain(ctx context.Context, crypto cryptov1.CryptoServiceClient, seg *segment, delivered func(int)) error {
	data, err := os.ReadFile(s.path(seg.name))
	if err != nil {
		// Gone, or unreadable: the entries' numbers are told when those after
		// them, or the ring, show that they are missing.
		s.log.Error("a segment of the spool cannot be read: its events are lost, and told", "segment", s.path(seg.name), obs.KeyErr, err)
	}
	parcels := s.parcels(parse(data))
	s.holds(seg, parcels)
	left := func(events int) {
		s.left(seg, events)
		delivered(events)
	}
	for len(parcels) > 0 {
		n := 1
		for n < len(parcels) && sameOpen(parcels[0].head, parcels[n].head) {
			n++
		}
		if err := s.deliver(ctx, crypto, parcels[:n], left); err != nil {
			return err
		}
		parcels = parcels[n:]
	}
	// First written down and then removed: in between it would be delivered twice
	// at worst. A disk that is full has room for the note once the segment is gone.
	noted := s.saveMarks()
	if err := s.remove(seg); err != nil {
		return err
	}
	if noted != nil {
		noted = s.saveMarks()
	}
	if s.Used() == 0 {
		s.log.Info("the spool is empty: the journal has all of it")
	}
	return noted
}

// parcel is an entry on its way, or what stands for one that is lost.
type parcel struct {
	head *capturev1.SpoolEntry
	out  *outbox.Record
	lost uint64
	done bool
}

// parcels turns a segment's entries into what is sent: gaps stand where entries
// are missing or damaged, and what is delivered already is left out.
func (s *Spool) parcels(entries []entry) []*parcel {
	s.mu.Lock()
	through := maps.Clone(s.marks)
	s.mu.Unlock()
	var parcels []*parcel
	for _, e := range entries {
		h := e.head
		at, known := through[h.GetEpoch()]
		if known && h.GetLast() <= at.Number {
			continue
		}
		if known && h.GetFirst() > at.Number+1 {
			s.log.Error("entries of the spool are missing: their events are counted as lost",
				obs.KeyEpoch, h.GetEpoch(), "first", at.Number+1, "last", h.GetFirst()-1)
			parcels = append(parcels, s.lost(h, at.Number+1, h.GetFirst()-1, at.Hash[:], h.GetChainBefore()))
		}
		through[h.GetEpoch()] = Mark{Number: h.GetLast(), Hash: [32]byte(h.GetChainAfter())}
		if e.sealed == nil {
			s.log.Error("an entry of the spool is damaged: its events are counted as lost",
				obs.KeyEpoch, h.GetEpoch(), "first", h.GetFirst(), "last", h.GetLast())
			parcels = append(parcels, s.lost(h, h.GetFirst(), h.GetLast(), h.GetChainBefore(), h.GetChainAfter()))
			continue
		}
		parcels = append(parcels, &parcel{head: h, out: &outbox.Record{
			Sealed: e.sealed, SpoolKeyID: h.GetSpoolKeyId(), MessageID: h.GetMessageId(),
			PartitionKey: h.GetPartitionKey(), Traceparent: h.GetTraceparent(),
		}})
	}
	return parcels
}

// lost is a record that tells of numbers nobody will ever see. The chain holds
// them, as of a record that crypto refused. It has the times of the entry beside
// it, so that it is the same whenever it is made.
func (s *Spool) lost(beside *capturev1.SpoolEntry, first, last uint64, before, after []byte) *parcel {
	at := time.UnixMicro(beside.GetOldestUs()).UTC()
	if s.Losing != nil {
		s.Losing(beside.GetEpoch(), first, last, at)
	}
	extension := das.Extension{
		Epoch: beside.GetEpoch(), Gaps: []das.Gap{{First: first, Last: last, From: at, To: at, Cause: das.CauseRefused}},
		Prev: das.Hash(before), Last: das.Hash(after),
	}
	return &parcel{
		head: &capturev1.SpoolEntry{
			Epoch: beside.GetEpoch(), First: first, Last: last, ChainBefore: before, ChainAfter: after, OldestUs: beside.GetOldestUs(),
			ClusterResourceId: beside.GetClusterResourceId(), InstanceResourceId: beside.GetInstanceResourceId(),
			KmsKeyId: beside.GetKmsKeyId(), KinesisStream: beside.GetKinesisStream(), Version: beside.GetVersion(),
		},
		out: &outbox.Record{
			Plaintext: das.AppendHeartbeat(nil, beside.GetClusterResourceId(), beside.GetInstanceResourceId(), &extension),
			MessageID: fmt.Sprintf("%s/%d/%d-%d/lost", beside.GetInstanceResourceId(), beside.GetEpoch(), first, last),
			// One shard is as good as another.
			PartitionKey: beside.GetInstanceResourceId() + "/0",
		},
		lost: last - first + 1,
	}
}

func sameOpen(a, b *capturev1.SpoolEntry) bool {
	x, y := bindingOf(a), bindingOf(b)
	x.MessageID, y.MessageID = "", ""
	return x == y
}

// deliver sends parcels of one stream. It returns nil when the journal has them
// all.
func (s *Spool) deliver(ctx context.Context, crypto cryptov1.CryptoServiceClient, parcels []*parcel, delivered func(int)) error {
	open := parcels[0].head
	box := outbox.New(crypto, &cryptov1.SealOpen{
		ClusterResourceId: open.GetClusterResourceId(), InstanceResourceId: open.GetInstanceResourceId(),
		KmsKeyId: open.GetKmsKeyId(), KinesisStream: open.GetKinesisStream(), Version: open.GetVersion(),
	}, drainStreams, func() {}, s.log.With("from", "spool"))
	sending, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- box.Run(sending) }()
	defer func() { stop(); <-ended }()

	byRecord := make(map[*outbox.Record]*parcel)
	for sent, flown := 0, 0; flown < len(parcels); {
		for sent < len(parcels) && sent-flown < inFlight {
			byRecord[parcels[sent].out] = parcels[sent]
			box.Send(parcels[sent].out)
			sent++
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case result := <-box.Results():
			p := byRecord[result.Record]
			delete(byRecord, result.Record)
			if result.Refused != "" && p.lost == 0 {
				h := p.head
				s.log.Error("a spooled record can never be sealed: its events are counted as lost",
					obs.KeyEpoch, h.GetEpoch(), "first", h.GetFirst(), "last", h.GetLast(), "reason", result.Refused)
				*p = *s.lost(h, h.GetFirst(), h.GetLast(), h.GetChainBefore(), h.GetChainAfter())
				byRecord[p.out] = p
				box.Send(p.out)
				continue
			}
			p.done = true
		}
		for flown < sent && parcels[flown].done {
			s.arrived(parcels[flown])
			delivered(int(parcels[flown].head.GetEvents()))
			flown++
		}
	}
	return nil
}

// arrived moves the mark of the parcel's epoch.
func (s *Spool) arrived(p *parcel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	epoch := p.head.GetEpoch()
	s.marks[epoch] = Mark{Number: p.head.GetLast(), Hash: [32]byte(p.head.GetChainAfter()), Lost: s.marks[epoch].Lost + p.lost}
}
