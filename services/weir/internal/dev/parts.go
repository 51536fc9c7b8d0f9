package dev

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// parts are the services that run in this process, each stopped by itself.
type parts struct {
	// failed gets the first part that ends without having been asked to.
	failed chan error

	mu   sync.Mutex // guards list
	list []*part
}

type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error // read after done is closed
}

func newParts() *parts { return &parts{failed: make(chan error, 1)} }

// start runs a part until stop.
func (p *parts) start(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	pt := &part{name: name, cancel: cancel, done: make(chan struct{})}
	p.mu.Lock()
	p.list = append(p.list, pt)
	p.mu.Unlock()
	go func() {
		defer close(pt.done)
		pt.err = run(ctx)
		if ctx.Err() != nil {
			return
		}
		err := fmt.Errorf("%s ended by itself", name)
		if pt.err != nil {
			err = fmt.Errorf("%s: %w", name, pt.err)
		}
		select {
		case p.failed <- err:
		default:
		}
	}()
}

// stop ends the parts, the one started last first, and waits for each.
func (p *parts) stop() error {
	p.mu.Lock()
	list := p.list
	p.list = nil
	p.mu.Unlock()
	var first error
	for i := len(list) - 1; i >= 0; i-- {
		list[i].cancel()
		<-list[i].done
		if err := list[i].err; err != nil && first == nil && !errors.Is(err, context.Canceled) {
			first = fmt.Errorf("stopping %s: %w", list[i].name, err)
		}
	}
	return first
}
