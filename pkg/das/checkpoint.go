package das

import (
	"encoding/base64"
	"fmt"
	"time"
)

// Checkpoint is a signed statement of where the chain of an epoch stands. It
// travels in heartbeats.
type Checkpoint struct {
	Epoch, N  uint64
	Hash      Hash // the chain after number N
	At        time.Time
	Instance  string
	Algorithm string
	KeyID     string
	Signature []byte
}

// Text is what is signed. Who checks a signature writes it from the record's
// fields, so it is as plain as can be: one field a line.
func (c *Checkpoint) Text(cluster string) []byte {
	text := fmt.Appendf(nil, "weir checkpoint v1\n%s\n%s\n%d\n%d\n%s\n", cluster, c.Instance, c.Epoch, c.N, c.Hash)
	return append(AppendTime(text, c.At), '\n')
}

func (c *Checkpoint) append(dst []byte) []byte {
	dst = append(dst, `{"epoch":`...)
	dst = appendUint(dst, c.Epoch)
	dst = append(dst, `,"n":`...)
	dst = appendUint(dst, c.N)
	dst = append(dst, `,"hash":`...)
	dst = appendHash(dst, &c.Hash)
	dst = append(dst, `,"at":"`...)
	dst = AppendTime(dst, c.At)
	dst = append(dst, `","instance":`...)
	dst = AppendString(dst, c.Instance)
	dst = append(dst, `,"alg":`...)
	dst = AppendString(dst, c.Algorithm)
	dst = append(dst, `,"key":`...)
	dst = AppendString(dst, c.KeyID)
	dst = append(dst, `,"sig":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, c.Signature)
	return append(dst, `"}`...)
}

// checkpointJSON is a Checkpoint as JSON has it.
type checkpointJSON struct {
	Epoch     uint64  `json:"epoch"`
	N         uint64  `json:"n"`
	Hash      Hash    `json:"hash"`
	At        instant `json:"at"`
	Instance  string  `json:"instance"`
	Algorithm string  `json:"alg"`
	KeyID     string  `json:"key"`
	Signature []byte  `json:"sig"`
}

func (c *checkpointJSON) checkpoint() *Checkpoint {
	if c == nil {
		return nil
	}
	return &Checkpoint{
		Epoch: c.Epoch, N: c.N, Hash: c.Hash, At: c.At.Time, Instance: c.Instance,
		Algorithm: c.Algorithm, KeyID: c.KeyID, Signature: c.Signature,
	}
}
