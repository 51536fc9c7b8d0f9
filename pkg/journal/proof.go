package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/weir-das/weir/pkg/fault"
)

// proofSubject asks every server for its JetStream configuration. It belongs to
// the system account, which exports it to Weir's (see natsserver's
// configuration); where it does not, the proof fails.
const proofSubject = "$SYS.REQ.SERVER.PING.JSZ"

// ProveDurable returns nil when every server that holds a copy of the journal
// says itself that it syncs each write (sync_interval: always). Without that
// JetStream acknowledges before the disk has the record, and has lost
// acknowledged records that way; sync mode must then be refused.
//
// The error is Invalid and names the servers that do not, or NotReady when not
// all answered. The answer holds until a server restarts: ask again after a
// reconnection.
func ProveDurable(ctx context.Context, conn *Conn) error {
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	peers, err := peers(ctx, conn)
	if err != nil {
		return err
	}
	nc := conn.nc
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return fault.As(fault.NotReady, fmt.Errorf("asking the servers how they sync: %w", err))
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest(proofSubject, inbox, nil); err != nil {
		return fault.As(fault.NotReady, fmt.Errorf("asking the servers how they sync: %w", err))
	}
	var lazy []string
	for len(peers) > 0 {
		msg, err := sub.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return fault.As(fault.Invalid, fmt.Errorf("the NATS account may not ask how the servers sync: export %s from the system account", proofSubject))
		case err != nil:
			return fault.As(fault.NotReady, fmt.Errorf("asking the servers how they sync: no answer from %s: %w", strings.Join(peers, ", "), err))
		}
		server, always, err := parseProof(msg.Data)
		if err != nil {
			return fault.As(fault.NotReady, err)
		}
		i := slices.Index(peers, server)
		if i < 0 {
			continue // holds no copy
		}
		peers = slices.Delete(peers, i, i+1)
		if !always {
			lazy = append(lazy, server)
		}
	}
	if len(lazy) > 0 {
		return fault.As(fault.Invalid, fmt.Errorf("NATS acknowledges records before they are on disk: set sync_interval: always in the jetstream block of %s", strings.Join(lazy, ", ")))
	}
	return nil
}

// peers are the names of the servers that hold a copy.
func peers(ctx context.Context, conn *Conn) ([]string, error) {
	stream, err := conn.js.Stream(ctx, Stream)
	if err != nil {
		return nil, fault.As(fault.NotReady, fmt.Errorf("asking where the journal is: %w", err))
	}
	var names []string
	if c := stream.CachedInfo().Cluster; c != nil {
		if c.Leader != "" {
			names = append(names, c.Leader)
		}
		for _, p := range c.Replicas {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		names = append(names, conn.nc.ConnectedServerName())
	}
	if want := stream.CachedInfo().Config.Replicas; len(names) < want {
		return nil, fault.As(fault.NotReady, fmt.Errorf("the journal has %d of %d replicas", len(names), want))
	}
	return names, nil
}

// parseProof reads one server's answer.
func parseProof(data []byte) (server string, always bool, err error) {
	var answer struct {
		Server struct {
			Name string `json:"name"`
		} `json:"server"`
		Data struct {
			Disabled bool `json:"disabled"`
			Config   struct {
				SyncAlways bool `json:"sync_always"`
			} `json:"config"`
		} `json:"data"`
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return "", false, fmt.Errorf("reading how a server syncs: %w", err)
	}
	if answer.Error != nil {
		return "", false, fmt.Errorf("reading how %s syncs: %s", answer.Server.Name, answer.Error.Description)
	}
	return answer.Server.Name, answer.Data.Config.SyncAlways && !answer.Data.Disabled, nil
}
