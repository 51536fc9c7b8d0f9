// Package crypto seals records: it compresses and encrypts what capture sends and
// acknowledges it when the journal has it on disk.
//
// It holds no state worth saving. A record that is not acknowledged is still in
// capture's window, and the data keys in memory can be asked for again; so any
// number of replicas may run, and any of them may be killed.
//
// Clear text and data keys exist here, in memory: the process cannot be traced
// or dumped by others of its user, and its list of dependencies is short on
// purpose.
//
// Before: services/capture. Next: pkg/journal, then services/publisher.
package crypto

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	"github.com/weir-das/weir/pkg/service"
	"github.com/weir-das/weir/pkg/spoolkey"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/crypto/internal/keys"
	"github.com/weir-das/weir/services/crypto/internal/seal"
	"github.com/weir-das/weir/services/crypto/internal/sign"
)

// Run seals until ctx ends. It returns nil after a clean drain.
func Run(ctx context.Context, cfg Config, log *slog.Logger) (err error) {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	cfg = cfg.withDefaults()
	if cfg.Listener == nil {
		// Alone in its process; in weir dev the process is not ours to harden.
		if err := service.Undumpable(); err != nil {
			log.Warn("this process can be traced and dumped", obs.KeyErr, err)
		}
	}
	tel, err := obs.Setup(ctx, cfg.Obs, "crypto", log)
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, tel.Shutdown(stopping))
	}()

	// The peers: KMS and the journal. Both outlive the server, which drains first.
	kms, err := keys.NewKMS(ctx, cfg.KMSEndpoint, cfg.Region)
	if err != nil {
		return err
	}
	signer, err := newSigner(cfg, kms)
	if err != nil {
		return err
	}
	var spool *spoolkey.Ring
	if cfg.SpoolKeyFile != "" {
		if spool, err = spoolkey.OpenFile(cfg.SpoolKeyFile); err != nil {
			return err
		}
	}
	conn, err := journal.Connect(ctx, cfg.Journal, "crypto", log)
	if err != nil {
		return endedEarly(ctx, err)
	}
	defer conn.Close()
	jrn, err := journal.Open(ctx, conn, cfg.Journal)
	if err != nil {
		return endedEarly(ctx, err)
	}
	// What this service promises rests on it. It is told and not refused: async
	// streams live without; whoever starts a synchronous one asks again.
	if err := journal.ProveDurable(ctx, conn); err != nil && ctx.Err() == nil {
		log.Warn("NATS does not prove that records are on disk when it acknowledges them", obs.KeyErr, err)
	}

	cache, err := keys.NewCache(kms, keys.Limits{
		MaxAge: cfg.KeyMaxAge, HardAge: cfg.KeyHardAge, MaxBytes: cfg.KeyMaxBytes,
	}, log, tel)
	if err != nil {
		return err
	}
	defer cache.Close()
	handler, err := seal.NewServer(seal.Options{
		GzipLevel: cfg.GzipLevel, WindowBytes: cfg.WindowBytes,
		KMS: kms, Keys: cache, Journal: jrn, Position: jrn.Position, Signer: signer, Spool: spool, Log: log, Telemetry: tel,
	})
	if err != nil {
		return err
	}

	server, err := rpc.NewServer(cfg.RPC, cfg.TLS, log, tel)
	if err != nil {
		return err
	}
	cryptov1.RegisterCryptoServiceServer(server, handler)
	keeping, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	var keeper sync.WaitGroup
	keeper.Go(func() { jrn.Keep(keeping) })
	defer keeper.Wait()
	defer stopKeeping()
	if cfg.Listener != nil {
		return server.ServeListener(ctx, cfg.Listener)
	}
	return server.Serve(ctx)
}

// newSigner opens the key that signs checkpoints.
func newSigner(cfg Config, kms *keys.KMS) (sign.Signer, error) {
	switch {
	case cfg.SigningKeyFile != "":
		return sign.OpenFile(cfg.SigningKeyFile)
	case cfg.SigningKMSKey != "":
		return sign.NewKMS(kms.Client(), cfg.SigningKMSKey), nil
	}
	return sign.None{}, nil
}

// endedEarly is nil when it was told to stop before it had started.
func endedEarly(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
