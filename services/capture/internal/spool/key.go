package spool

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/spoolkey"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
)

const (
	// keyFile keeps the public key, for a capture that starts while crypto is away.
	keyFile = "public.key"
	// A key that is known is asked for again now and then, for it may have been
	// changed; one that is not, soon.
	keyEvery = 10 * time.Minute
	keySoon  = 2 * time.Second
	keyWait  = 5 * time.Second
)

// loadKey takes the key that was told last time.
func (s *Spool) loadKey() {
	raw, err := os.ReadFile(filepath.Join(s.dir, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var key *spoolkey.Public
	if err == nil {
		key, err = spoolkey.ParsePublic(raw)
	}
	if err != nil {
		s.log.Warn("the spool's public key cannot be read; asking crypto for it", obs.KeyErr, err)
		return
	}
	s.key.Store(key)
}

// KeepKey asks crypto for the key to seal to, until ctx ends.
func (s *Spool) KeepKey(ctx context.Context, crypto cryptov1.CryptoServiceClient) error {
	told := ""
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = keyEvery
		err := s.askKey(ctx, crypto)
		if err == nil {
			told = ""
			continue
		}
		if s.key.Load() == nil {
			wait = keySoon
		}
		if ctx.Err() == nil && err.Error() != told && s.key.Load() == nil {
			told = err.Error()
			s.log.Warn("the spool cannot be used yet: an outage that is longer than the ring lasts loses events", obs.KeyErr, err)
		}
	}
}

var errKeyless = errors.New("crypto has no key for it: give it a spool_key_file")

func (s *Spool) askKey(ctx context.Context, crypto cryptov1.CryptoServiceClient) error {
	ctx, cancel := context.WithTimeout(ctx, keyWait)
	defer cancel()
	answer, err := crypto.GetSpoolKey(ctx, &cryptov1.GetSpoolKeyRequest{})
	if err != nil {
		return fault.FromStatus(err)
	}
	if len(answer.GetPublicKey()) == 0 {
		return errKeyless
	}
	key, err := spoolkey.ParsePublic(answer.GetPublicKey())
	if err != nil {
		return err
	}
	if was := s.key.Load(); was != nil && was.ID() == key.ID() {
		return nil
	}
	s.key.Store(key)
	s.log.Info("the spool is sealed to crypto's key", "key", key.ID())
	return writeWhole(filepath.Join(s.dir, keyFile), key.Bytes())
}
