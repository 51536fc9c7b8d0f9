package pipeline

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/capture/internal/chain"
)

const (
	// signEvery is how often a chain that moves is signed: what is younger can
	// still be written anew by whoever holds the data key.
	signEvery = 10 * time.Second
	// signLook is how often it is looked whether the chain has moved.
	signLook = 500 * time.Millisecond
	// signWait bounds one call.
	signWait = 5 * time.Second
	// signAgain is how long a crypto without a key is left alone.
	signAgain = time.Minute
)

// notary has crypto sign where the chain stands. It works beside the events and
// is never waited for: a crypto that does not sign costs signatures alone.
type notary struct {
	// resumed is where the chain stood when this pipeline began. It is signed once
	// crypto has taken something: a crypto that cannot be reached is told of once,
	// by those who wait for it.
	resumed head
	// head is the latest durable end of the chain; the pipeline moves it.
	head atomic.Pointer[head]
	// signed is what crypto signed last, until a heartbeat takes it.
	signed atomic.Pointer[das.Checkpoint]
}

// head is where the chain stands.
type head struct {
	number uint64
	hash   chain.Hash
}

// run signs until ctx ends.
func (n *notary) run(ctx context.Context, p *pipeline) {
	look := time.NewTicker(signLook)
	defer look.Stop()
	var last *head
	var next time.Time
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		h := n.head.Load()
		if h == nil || h.number == 0 || last != nil && *h == *last || time.Now().Before(next) {
			continue
		}
		next = time.Now().Add(signEvery)
		signed, err := p.askToSign(ctx, h)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !failing {
				p.cfg.Log.Warn("crypto does not sign where the chain stands; asking again", obs.KeyErr, err)
			}
			failing = true
			continue
		case signed == nil:
			next = time.Now().Add(signAgain)
			continue
		}
		if failing {
			p.cfg.Log.Info("crypto signs again where the chain stands")
		}
		failing, last = false, h
		n.signed.Store(signed)
	}
}

// askToSign returns nil where crypto has no key to sign with.
func (p *pipeline) askToSign(ctx context.Context, h *head) (*das.Checkpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, signWait)
	defer cancel()
	out, err := p.cfg.Crypto.SignCheckpoint(ctx, &cryptov1.SignCheckpointRequest{
		ClusterResourceId: p.clusterResourceID, InstanceResourceId: p.instanceResourceID,
		Epoch: p.epoch, Number: h.number, Hash: h.hash[:],
	})
	if err != nil {
		return nil, fault.FromStatus(err)
	}
	if len(out.GetSignature()) == 0 {
		return nil, nil
	}
	return &das.Checkpoint{
		Epoch: p.epoch, N: h.number, Hash: das.Hash(h.hash), At: out.GetAt().AsTime(), Instance: p.instanceResourceID,
		Algorithm: out.GetAlgorithm(), KeyID: out.GetKeyId(), Signature: out.GetSignature(),
	}, nil
}
