// Package interop holds Weir's messages against clients that are not ours:
// AWS's Encryption SDK for Go, and the one for JavaScript with the settings of
// AWS's sample consumer. What they open, every consumer of Aurora's streams
// opens.
//
// The JavaScript half is in js: OpenJS feeds js/decrypt.mjs, which any other
// test may do with records straight from Kinesis. It needs node and npm, and
// installs what js/package-lock.json names. Without them tests fail; they are
// never skipped.
//
// Before: pkg/esdk and pkg/das, which are under test.
// Next: nothing.
package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Message is a sealed message and the key to open it with: the fields
// databaseActivityEvents and, as KMS decrypts it, key of an outer record.
type Message struct {
	Key     []byte `json:"key"`
	Message []byte `json:"message"`
	// Raw asks for the plaintext as it is, and not for the record in its gzip.
	Raw bool `json:"raw,omitempty"`
	// Namespace is the key provider to look for; empty means "BC".
	Namespace string `json:"namespace,omitempty"`
}

// Opened is what became of a Message.
type Opened struct {
	Record    []byte // the inner record, JSON, unless Raw was asked for
	Plaintext []byte // what the message held, where Raw was asked for
	Err       error  // why it was refused
}

// OpenJS opens messages with AWS's client for JavaScript, in their order. Its
// error says that the client could not be run; a message that it refuses has an
// error of its own.
func OpenJS(ctx context.Context, messages []Message) ([]Opened, error) {
	lines, err := runJS(ctx, "decrypt.mjs", messages)
	if err != nil {
		return nil, err
	}
	opened := make([]Opened, len(lines))
	for i, line := range lines {
		var answer struct {
			Error     string `json:"error"`
			Plaintext []byte `json:"plaintext"`
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			return nil, fmt.Errorf("reading line %d of decrypt.mjs: %w", i+1, err)
		}
		switch {
		case answer.Error != "":
			opened[i].Err = errors.New(answer.Error)
		case messages[i].Raw:
			opened[i].Plaintext = answer.Plaintext
		default:
			opened[i].Record = line
		}
	}
	return opened, nil
}

// Plain is what AWS's client for JavaScript is to seal.
type Plain struct {
	Key         []byte            `json:"key"`
	Plaintext   []byte            `json:"plaintext"`
	Signed      bool              `json:"signed,omitempty"` // suite 0x0378, else 0x0178
	FrameLength int               `json:"frameLength,omitempty"`
	Context     map[string]string `json:"context,omitempty"`
}

// SealJS seals with AWS's client for JavaScript.
func SealJS(ctx context.Context, plains []Plain) ([][]byte, error) {
	lines, err := runJS(ctx, "encrypt.mjs", plains)
	if err != nil {
		return nil, err
	}
	messages := make([][]byte, len(lines))
	for i, line := range lines {
		var answer struct {
			Message []byte `json:"message"`
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			return nil, fmt.Errorf("reading line %d of encrypt.mjs: %w", i+1, err)
		}
		messages[i] = answer.Message
	}
	return messages, nil
}

// runJS gives each of in to a script as a line of JSON and returns its lines.
func runJS[T any](ctx context.Context, script string, in []T) ([][]byte, error) {
	if err := install(); err != nil {
		return nil, err
	}
	var stdin, stdout, stderr bytes.Buffer
	for _, v := range in {
		if err := json.NewEncoder(&stdin).Encode(v); err != nil {
			return nil, err
		}
	}
	cmd := exec.CommandContext(ctx, "node", script)
	cmd.Dir = jsDir()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &stdin, &stdout, &stderr
	err := cmd.Run()
	// The script ends with 1 if it refused a message, with a line for it all the
	// same: only an answer that is missing is a failure to run.
	lines := bytes.Split(bytes.TrimSuffix(stdout.Bytes(), []byte("\n")), []byte("\n"))
	if len(lines) != len(in) {
		return nil, fmt.Errorf("running %s: %d answers to %d lines: %v: %s", script, len(lines), len(in), err, stderr.Bytes())
	}
	return lines, nil
}

// jsDir is the directory js beside this file.
func jsDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "js")
}

// installTimeout is for a registry that is slow, not for one that is gone.
const installTimeout = 3 * time.Minute

// install installs what package-lock.json names, unless it is there.
var install = sync.OnceValue(func() error {
	lock, err := os.Open(filepath.Join(jsDir(), "package-lock.json"))
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	// Two npm in one directory remove each other's files, and one of them waits
	// for ever. `make setup` takes the same lock; closing the file releases it.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", lock.Name(), err)
	}
	if installed(lock) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund")
	cmd.Dir = jsDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci in %s: %w: %s", cmd.Dir, err, out)
	}
	return nil
})

// installed says whether npm has finished since lock was written.
func installed(lock *os.File) bool {
	written, err := lock.Stat()
	if err != nil {
		return false
	}
	done, err := os.Stat(filepath.Join(jsDir(), "node_modules", ".package-lock.json"))
	return err == nil && !done.ModTime().Before(written.ModTime())
}
