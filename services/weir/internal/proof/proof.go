// Package proof holds a stream to account from its decrypted records alone: is
// every number of every epoch there, told as lost, or missing; and do the
// records agree with each other, that is, is the hash chain through them whole.
//
// The one idea: everything that a record says of the chain is a claim "after
// number k the chain stood at h", and all claims about one k must agree. A
// record claims its prev, the value after each of its items, which is computed
// here from the item's bytes, and its last. Since a value commits to everything
// before it, agreement at k is agreement on all that both sides say of the
// numbers up to k. So records may come in any order, from any number of shards,
// twice, and cut differently the second time, and nothing need be held back.
//
// What was claimed is kept on disk (see heads) and what is there as ranges (see
// runs): memory grows with the number of holes, not of events.
//
// It shares no code with what writes chain and numbers (services/capture, and
// pkg/das's renderer): it would share their mistakes. It trusts nothing in a
// record. It knows neither Kinesis nor keys, and what it cannot know is stated
// where it matters: the end of an epoch, for one, is where the last sign of it is.
//
// Before: services/weir/internal/verify, which reads and decrypts.
// Next: the same, which prints the Report.
package proof

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// Hash is a value of the chain.
type Hash [sha256.Size]byte

// String is h in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// genesis is the value before the first number of an epoch.
func genesis(epoch uint64) Hash {
	var text [21]byte
	copy(text[:], "weir chain v1")
	binary.BigEndian.PutUint64(text[13:], epoch)
	return sha256.Sum256(text[:])
}

// follow is the value after an item whose last number and bytes are given.
func (h Hash) follow(number uint64, content []byte) Hash {
	d := sha256.New()
	d.Write(h[:])
	d.Write(binary.BigEndian.AppendUint64(nil, number))
	d.Write(content)
	return Hash(d.Sum(nil))
}

// Source says where a record was found.
type Source struct {
	Shard    string    `json:"shard,omitempty"`
	Sequence string    `json:"sequence,omitempty"`
	Line     int64     `json:"line,omitempty"`   // of a file
	Arrived  time.Time `json:"arrived,omitzero"` // at Kinesis; zero where nobody knows
}

func (s Source) String() string {
	if s.Line > 0 {
		return fmt.Sprintf("line %d", s.Line)
	}
	return fmt.Sprintf("record %s of %s", s.Sequence, s.Shard)
}

// The kinds of Finding. Each is tampering: nothing that Weir itself does when
// it is killed, cut off or restarted looks like it.
const (
	// Altered: the record cannot be opened, or is not as any capture writes it.
	Altered = "altered"
	// Broken: the record's own items do not lead from its prev to its last.
	Broken = "broken"
	// Contradiction: two records say different things of the same number.
	Contradiction = "contradiction"
	// Foreign: the record belongs to another cluster, or to another instance
	// than the rest of its epoch.
	Foreign = "foreign"
	// Forged: a signature that the key did not make.
	Forged = "forged"
	// Unsigned: the chain does not hold what was signed.
	Unsigned = "unsigned"
)

// Finding is one thing that is wrong with the stream beside what is missing.
type Finding struct {
	Kind     string `json:"kind"`
	Instance string `json:"instance,omitempty"`
	Epoch    uint64 `json:"epoch,omitempty"`
	First    uint64 `json:"first,omitempty"` // the numbers concerned; 0 where none are known
	Last     uint64 `json:"last,omitempty"`
	Source   Source `json:"source,omitzero"`
	Detail   string `json:"detail"`
}
