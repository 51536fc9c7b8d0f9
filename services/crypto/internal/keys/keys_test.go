package keys_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/esdk"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/services/crypto/internal/keys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const cluster = "cluster-ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// fakeKMS makes keys that say how many came before, or fails.
type fakeKMS struct {
	mu    sync.Mutex
	calls int
	fail  error
	takes time.Duration
}

func (f *fakeKMS) Generate(ctx context.Context, keyID, cluster string) (*keys.Generated, error) {
	f.mu.Lock()
	f.calls++
	n, fail, takes := f.calls, f.fail, f.takes
	f.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if fail != nil {
		return nil, fail
	}
	g := &keys.Generated{Ciphertext: fmt.Appendf(nil, "%s/%s/%d", keyID, cluster, n), ARN: "arn:" + keyID}
	g.Plaintext[0] = byte(n)
	return g, nil
}

func (f *fakeKMS) set(fail error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *fakeKMS) called() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func newCache(t *testing.T, kms keys.Generator, l keys.Limits) *keys.Cache {
	t.Helper()
	c, err := keys.NewCache(kms, l, slog.New(slog.DiscardHandler), obs.Discard())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var limits = keys.Limits{MaxAge: time.Hour, HardAge: 24 * time.Hour}

// get returns the ciphertext of the key, which says which one it is.
func get(t *testing.T, c *keys.Cache, n int) (string, error) {
	t.Helper()
	k, err := c.Get(t.Context(), "k", cluster, n)
	if err != nil {
		return "", err
	}
	// What is sealed with it opens with the key that KMS made.
	var plain esdk.Key
	name := string(k.Ciphertext)
	made, err := strconv.Atoi(name[strings.LastIndexByte(name, '/')+1:])
	if err != nil {
		t.Fatal(err)
	}
	plain[0] = byte(made)
	got, err := esdk.Open(nil, &plain, k.Seal(nil, []byte("text")))
	if err != nil || string(got) != "text" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	return name, nil
}

func TestOneKeyForManyRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{takes: time.Second}
		c := newCache(t, kms, limits)
		defer c.Close()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if k, err := get(t, c, 1); err != nil || k != "k/"+cluster+"/1" {
					t.Errorf("Get = %q, %v, want the first key", k, err)
				}
			})
		}
		wg.Wait()
		if n := kms.called(); n != 1 {
			t.Errorf("KMS was asked %d times, want once", n)
		}
		// Another cluster, or another KMS key, is another data key.
		for _, other := range []struct{ key, cluster string }{{"k", "cluster-2"}, {"k2", cluster}} {
			k, err := c.Get(t.Context(), other.key, other.cluster, 1)
			if err != nil || !strings.HasPrefix(string(k.Ciphertext), other.key+"/"+other.cluster) {
				t.Errorf("Get(%v) = %v, %v", other, k, err)
			}
		}
	})
}

func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{}
		c := newCache(t, kms, limits)
		defer c.Close()
		want := func(what string, n int) {
			t.Helper()
			if k, err := get(t, c, 1); err != nil || !strings.HasSuffix(k, fmt.Sprintf("/%d", n)) {
				t.Fatalf("%s: Get = %q, %v, want key %d", what, k, err, n)
			}
		}
		want("the first", 1)
		time.Sleep(time.Hour - time.Second)
		want("within an hour", 1)
		time.Sleep(time.Second)
		kms.takes = time.Minute
		began := time.Now()
		want("an hour old: the old one at once", 1)
		if d := time.Since(began); d != 0 {
			t.Errorf("Get waited %v for a renewal, want nothing", d)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		want("renewed beside", 2)
		if n := kms.called(); n != 2 {
			t.Errorf("KMS was asked %d times, want 2", n)
		}
	})
}

func TestOutageOfKMS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{}
		c := newCache(t, kms, limits)
		defer c.Close()
		if _, err := get(t, c, 1); err != nil {
			t.Fatal(err)
		}
		kms.set(fault.As(fault.NotReady, errors.New("no route")))
		for range 24*60 - 1 {
			time.Sleep(time.Minute)
			if k, err := get(t, c, 1); err != nil || !strings.HasSuffix(k, "/1") {
				t.Fatalf("Get in an outage = %q, %v, want the old key", k, err)
			}
			synctest.Wait()
		}
		if n := kms.called(); n < 24 || n > 3000 {
			t.Errorf("KMS was asked %d times in an outage of a day, want some, with a back-off", n)
		}
		time.Sleep(time.Minute)
		if _, err := get(t, c, 1); !fault.Is(err, fault.NotReady) {
			t.Fatalf("Get with a key of a day = %v, want NotReady", err)
		}
		kms.set(nil)
		time.Sleep(time.Minute) // the longest back-off
		if _, err := get(t, c, 1); err != nil {
			t.Fatalf("Get after the outage = %v", err)
		}
	})
}

// A KMS that says no is an owner's decision, not an outage: the key goes at the
// next renewal, and comes back when KMS says yes again.
func TestKMSRefusesAtRenewal(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Invalid, fault.Denied} {
		synctest.Test(t, func(t *testing.T) {
			kms := &fakeKMS{}
			c := newCache(t, kms, limits)
			defer c.Close()
			if _, err := get(t, c, 1); err != nil {
				t.Fatal(err)
			}
			kms.set(fault.As(kind, errors.New("the key is disabled")))
			time.Sleep(59 * time.Minute)
			if _, err := get(t, c, 1); err != nil {
				t.Fatalf("Get within the hour = %v", err)
			}
			time.Sleep(time.Minute)
			_, _ = get(t, c, 1) // begins the renewal
			synctest.Wait()
			before := kms.called()
			for range 1000 {
				if _, err := get(t, c, 1); !fault.Is(err, kind) {
					t.Fatalf("Get after KMS refused = %v, want %v", err, kind)
				}
			}
			if n := kms.called() - before; n > 1 {
				t.Errorf("KMS was asked %d times by 1000 records at a time, want its answer to be remembered", n)
			}
			kms.set(nil)
			time.Sleep(time.Minute)
			if k, err := get(t, c, 1); err != nil || strings.HasSuffix(k, "/1") {
				t.Fatalf("Get after the key was enabled = %q, %v, want a new key", k, err)
			}
		})
	}
}

func TestBytesBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{}
		c := newCache(t, kms, keys.Limits{MaxAge: time.Hour, HardAge: time.Hour, MaxBytes: 1000})
		defer c.Close()
		for i, want := range []string{"/1", "/1", "/2"} {
			if k, err := get(t, c, 500); err != nil || !strings.HasSuffix(k, want) {
				t.Errorf("Get %d = %q, %v, want key %s", i, k, err, want)
			}
			synctest.Wait()
		}
	})
}

func TestWaitingForKMSEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{takes: time.Hour}
		c := newCache(t, kms, limits)
		defer c.Close()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := c.Get(ctx, "k", cluster, 1); !fault.Is(err, fault.NotReady) {
					t.Errorf("Get = %v, want NotReady", err)
				}
			})
		}
		wg.Wait()
		// A caller's end is no answer of KMS: the next one asks again at once.
		kms.mu.Lock()
		kms.takes = 0
		kms.mu.Unlock()
		if _, err := get(t, c, 1); err != nil && kms.called() < 2 {
			t.Errorf("Get after a cancelled one = %v", err)
		}
	})
}

// What holds a key does not show it.
func TestKeysAreUnprintable(t *testing.T) {
	g := keys.Generated{ARN: "arn"}
	for i := range g.Plaintext {
		g.Plaintext[i] = 0xA7
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("key", "generated", g, "key", g.Plaintext)
	for _, text := range []string{fmt.Sprint(g), fmt.Sprintf("%+v", g), fmt.Sprintf("%#v", g), fmt.Sprintf("%x", g), log.String()} {
		for _, secret := range []string{"167", "a7", "A7", "p6en"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q shows the key", text)
			}
		}
	}
	g.Wipe()
	if g.Plaintext != (esdk.Key{}) {
		t.Error("Wipe left the key")
	}
}
