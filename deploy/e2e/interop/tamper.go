package interop

import (
	"context"
	"encoding/json"
	"fmt"
)

// Tampered is a stream after an attack.
type Tampered struct {
	Messages [][]byte `json:"messages"`
	// From says of each message which of the records that Tamper was given it
	// came from, or whose key it is under.
	From []int `json:"from"`
}

// Tamper has js/tamper.mjs do to a stream what an attack of that name does. It
// shares no code with Weir: it seals with AWS's client and chains by itself.
func Tamper(ctx context.Context, attack string, records []Message) (Tampered, error) {
	lines, err := runJS(ctx, "tamper.mjs", []struct {
		Attack  string    `json:"attack"`
		Records []Message `json:"records"`
	}{{attack, records}})
	if err != nil {
		return Tampered{}, err
	}
	var t Tampered
	if err := json.Unmarshal(lines[0], &t); err != nil {
		return Tampered{}, fmt.Errorf("reading what tamper.mjs says: %w: %.200s", err, lines[0])
	}
	return t, nil
}
