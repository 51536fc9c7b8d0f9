package tail

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/esdk"
)

// maxPlain bounds an unzipped record: Kinesis's largest could unzip to a
// thousand times its size.
const maxPlain = das.MaxRecord

// opener turns what Kinesis has into inner records. It may be used by several
// goroutines.
type opener struct {
	keys  *keys
	unzip sync.Pool // of *gzip.Reader
}

// open returns the inner record, or an error that says why there is none.
func (o *opener) open(ctx context.Context, data []byte) ([]byte, error) {
	rec, err := das.ParseOuter(data)
	if err != nil {
		return nil, &refusal{"not an activity record", err}
	}
	key, err := o.keys.get(ctx, rec.Key)
	if err != nil {
		return nil, err
	}
	zipped, err := esdk.Open(make([]byte, 0, len(rec.Events)), key, rec.Events)
	if err != nil {
		return nil, &refusal{"KMS opened the data key, but the payload does not open with it: it was changed on its way, or is no Encryption SDK message of an activity stream", err}
	}
	return o.gunzip(zipped)
}

func (o *opener) gunzip(zipped []byte) ([]byte, error) {
	z, _ := o.unzip.Get().(*gzip.Reader)
	if z == nil {
		z = new(gzip.Reader)
	}
	defer o.unzip.Put(z)
	if err := z.Reset(bytes.NewReader(zipped)); err != nil {
		return nil, &refusal{"the decrypted payload is not gzip", err}
	}
	var plain bytes.Buffer
	plain.Grow(8 * len(zipped))
	switch n, err := io.Copy(&plain, io.LimitReader(z, maxPlain+1)); {
	case err != nil:
		return nil, &refusal{"unzipping the decrypted payload", err}
	case n > maxPlain:
		return nil, &refusal{cause: "the decrypted payload unzips to more than 16 MiB: no capture writes that"}
	}
	return plain.Bytes(), nil
}
