package verify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/weir-das/weir/services/weir/internal/proof"
)

// maxLine bounds a line of a file of records, in bytes; no record is larger.
const maxLine = 16 << 20

// keep writes a record as a line of a file that readFile reads: byte for byte,
// unless a stranger put line feeds between its parts.
func keep(w io.Writer, plain []byte) error {
	if bytes.ContainsAny(plain, "\n\r") {
		var b bytes.Buffer
		if json.Compact(&b, plain) != nil {
			return nil // no record: the report names it
		}
		plain = b.Bytes()
	}
	_, err := w.Write(append(bytes.Clone(plain), '\n'))
	return err
}

// readFile reads records that somebody kept, one a line, into r.
func readFile(ctx context.Context, r *reading, name string) error {
	in := os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("--records: %w", err)
		}
		defer f.Close()
		in = f
	}
	lines := bufio.NewReaderSize(in, 1<<20)
	for n := int64(1); ; n++ {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("--records: %s, line %d: %w", name, n, err)
		}
		if ctx.Err() != nil {
			return nil // the command says that it was interrupted
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if err := r.take(proof.Source{Line: n}, line); err != nil {
			return err
		}
	}
}

func readLine(lines *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := lines.ReadSlice('\n')
		if len(line)+len(part) > maxLine+1 {
			return nil, errors.New("more than 16 MiB: no capture writes such a record")
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}
