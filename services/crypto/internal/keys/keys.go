// Package keys keeps the data keys that records are sealed with.
//
// One idea: a data key has two ages. When it is old (an hour) a new one is asked
// for, beside the traffic; when KMS does not answer, the old one stays in use
// until it is too old (a day), so that an outage of KMS stops nothing. When KMS
// answers that the key may not be used (disabled, deleted, denied) nothing is
// sealed any more: that is an owner's decision, not an outage.
//
// It holds plaintext keys in memory and nowhere else, as type esdk.Key, which
// does not print; the bytes KMS sent are wiped as soon as they are expanded for
// AES. It decrypts nothing.
//
// Before: internal/seal, which asks for a key with every record. Next: AWS KMS.
package keys

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/esdk"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
)

// maxMessages is how many messages one data key may seal. Each takes a random
// IV of 96 bits under it: beyond 2^32 the chance of a repeated one is no longer
// negligible. A new key is asked for at half of that.
const maxMessages = 1 << 32

// idleKeys is how long a key that nobody uses is kept.
const idleKeys = time.Hour

// Limits of a data key. A zero field has no limit, except HardAge.
type Limits struct {
	MaxAge   time.Duration // ask for a new key after
	HardAge  time.Duration // never use a key after
	MaxBytes int64         // ask for a new key after so many bytes of plaintext
}

// Generator makes data keys.
type Generator interface {
	// Generate makes a data key for a cluster under the KMS key called keyID. Its
	// errors are marked: Invalid or Denied when KMS says that the key may not be
	// used, Busy or NotReady when it may answer otherwise later.
	Generate(ctx context.Context, keyID, cluster string) (*Generated, error)
}

// Generated is a new data key. The receiver owns both of its halves, and passes it
// on by pointer only: a copy would not be wiped.
type Generated struct {
	Plaintext  esdk.Key
	Ciphertext []byte // the same, encrypted by KMS: what goes into every record
	ARN        string // of the KMS key
}

// Wipe overwrites the plaintext.
func (g *Generated) Wipe() { clear(g.Plaintext[:]) }

// Key is a data key in use. It is safe for concurrent use.
type Key struct {
	*esdk.Sealer
	Ciphertext []byte // must not be changed

	made     time.Time
	messages atomic.Int64
	bytes    atomic.Int64
}

// Cache keeps one key per cluster and KMS key.
type Cache struct {
	kms    Generator
	limits Limits
	log    *slog.Logger
	now    func() time.Time
	calls  metric.Int64Counter

	ctx    context.Context // of renewals, which no caller waits for
	cancel context.CancelFunc
	renew  sync.WaitGroup

	// mu guards slots; each slot has a lock of its own.
	mu    sync.Mutex
	slots map[name]*slot
}

type name struct{ keyID, cluster string }

// slot is one place for a key. Whoever holds turn may ask KMS.
type slot struct {
	key  atomic.Pointer[Key]
	used atomic.Int64 // when it was last asked for, in nanoseconds
	turn chan struct{}

	// These belong to the holder of turn.
	retry   backoff.Backoff
	next    time.Time // do not ask KMS before
	failure error     // what KMS said last; nil after a success
}

// NewCache returns an empty cache. Close it.
func NewCache(kms Generator, limits Limits, log *slog.Logger, tel *obs.Telemetry) (*Cache, error) {
	calls, err := tel.Meter.Int64Counter("weir.crypto.kms_calls",
		metric.WithDescription("Data keys asked for, by outcome: made, or what KMS's refusal means."))
	if err != nil {
		return nil, fmt.Errorf("making a metric: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Cache{
		kms: kms, limits: limits, log: log, now: time.Now, calls: calls,
		ctx: ctx, cancel: cancel,
		slots: make(map[name]*slot),
	}
	for _, k := range []fault.Kind{fault.Invalid, fault.Denied, fault.Busy, fault.NotReady} {
		c.count(0, fault.As(k, errors.New("none yet"))) // an alert on a missing series never fires
	}
	return c, nil
}

// count counts answers of KMS.
func (c *Cache) count(n int64, err error) {
	outcome := "made"
	if err != nil {
		outcome = fault.Of(err).String()
	}
	c.calls.Add(c.ctx, n, metric.WithAttributes(attribute.String("outcome", outcome)))
}

// Close ends renewals and drops all keys.
func (c *Cache) Close() {
	c.cancel()
	c.renew.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.slots)
}

// Get returns the key to seal n bytes with. It asks KMS only when there is none
// that may be used, once for all who wait, and not more often than its back-off
// allows; otherwise it returns at once. Errors are Generator's.
func (c *Cache) Get(ctx context.Context, keyID, cluster string, n int) (*Key, error) {
	s := c.slot(name{keyID, cluster})
	s.used.Store(c.now().UnixNano())
	if k := s.key.Load(); k != nil && c.usable(k) {
		k.messages.Add(1)
		k.bytes.Add(int64(n))
		if c.old(k) {
			c.renewBeside(s, keyID, cluster)
		}
		return k, nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, fault.As(fault.NotReady, fmt.Errorf("waiting for a data key: %w", ctx.Err()))
	}
	k := s.key.Load() // somebody else may have got one meanwhile
	if k == nil || !c.usable(k) {
		var err error
		if k, err = c.generate(ctx, s, keyID, cluster); err != nil {
			return nil, err
		}
	}
	k.messages.Add(1)
	k.bytes.Add(int64(n))
	return k, nil
}

func (c *Cache) usable(k *Key) bool {
	return c.now().Sub(k.made) < c.limits.HardAge && k.messages.Load() < maxMessages
}

func (c *Cache) old(k *Key) bool {
	return c.limits.MaxAge > 0 && c.now().Sub(k.made) >= c.limits.MaxAge ||
		c.limits.MaxBytes > 0 && k.bytes.Load() >= c.limits.MaxBytes ||
		k.messages.Load() >= maxMessages/2
}

// renewBeside asks for a new key while the old one goes on being used, unless
// somebody does already. No record waits for it.
func (c *Cache) renewBeside(s *slot, keyID, cluster string) {
	select {
	case s.turn <- struct{}{}:
	default:
		return
	}
	if k := s.key.Load(); c.now().Before(s.next) || k == nil || !c.old(k) {
		<-s.turn
		return
	}
	c.renew.Go(func() {
		defer func() { <-s.turn }()
		_, err := c.generate(c.ctx, s, keyID, cluster)
		if fault.Is(err, fault.Invalid) || fault.Is(err, fault.Denied) {
			s.key.Store(nil)
		}
	})
}

// generate asks KMS for a key and puts it into s, whose turn the caller holds.
func (c *Cache) generate(ctx context.Context, s *slot, keyID, cluster string) (*Key, error) {
	if s.failure != nil && c.now().Before(s.next) {
		return nil, s.failure
	}
	log := c.log.With(obs.KeyCluster, cluster, "kms_key", keyID)
	g, err := c.kms.Generate(ctx, keyID, cluster)
	if err != nil {
		if ctx.Err() != nil { // our caller's end, not KMS's answer
			return nil, fault.As(fault.NotReady, err)
		}
		c.count(1, err)
		if s.failure == nil || s.failure.Error() != err.Error() {
			log.Error("no new data key", obs.KeyErr, err, "old_key_in_use", s.key.Load() != nil && fault.Retryable(err))
		}
		s.failure = err
		s.next = c.now().Add(s.retry.Next())
		return nil, err
	}
	c.count(1, nil)
	k := &Key{Sealer: esdk.NewSealer(&g.Plaintext), Ciphertext: g.Ciphertext, made: c.now()}
	g.Wipe()
	s.key.Store(k)
	s.failure = nil
	s.retry.Reset()
	log.Info("new data key", "kms_key_arn", g.ARN)
	return k, nil
}

// slot finds or makes the place for a key. Making one sweeps out those that
// nobody has used for long, so that the cache is as large as what is in use.
func (c *Cache) slot(n name) *slot {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.slots[n]; s != nil {
		return s
	}
	limit := c.now().Add(-idleKeys).UnixNano()
	for other, s := range c.slots {
		if s.used.Load() < limit {
			delete(c.slots, other)
		}
	}
	s := &slot{
		turn:  make(chan struct{}, 1),
		retry: backoff.Backoff{Min: time.Second, Max: time.Minute},
	}
	s.used.Store(c.now().UnixNano())
	c.slots[n] = s
	return s
}
