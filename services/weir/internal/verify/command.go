package verify

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/weir-das/weir/services/weir/internal/connect"
	"github.com/weir-das/weir/services/weir/internal/proof"
	"github.com/weir-das/weir/services/weir/internal/tail"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// Exit codes of the command.
const (
	exitWhole    = 0
	exitNotWhole = 1 // a loss that nobody told, or tampering
	exitUnknown  = 2 // it could not be checked, or not all of it
)

// Command is `weir verify`.
type Command struct {
	Cluster   string        `xor:"source" placeholder:"ID" help:"The cluster whose stream to check, by id or resource id. The default is the connect file's."`
	Stream    string        `xor:"source" placeholder:"NAME" help:"The Kinesis stream to check. Needs no control, only AWS."`
	Records   string        `xor:"source" placeholder:"FILE" help:"Check records that were kept, one a line as --save or weir tail --format das --heartbeats writes them; - is standard input. Needs neither AWS nor a mesh."`
	From      string        `placeholder:"TIME" help:"Check what arrived from then on: a time such as 2026-01-31T15:04:05Z, or how long ago such as 15m. The default is all that the stream holds."`
	To        string        `placeholder:"TIME" help:"Check what arrived until then. The default is now."`
	Events    string        `placeholder:"ADDR|FILE" help:"Hold the stream against what the notifier told of losses and of the ends of epochs: its address, or a file of what weir events --format json printed."`
	PublicKey string        `xor:"key" type:"path" placeholder:"FILE" help:"Check the signatures of crypto's checkpoints with this public key, PEM or DER. The default is the connect file's."`
	KMSKey    string        `xor:"key" name:"kms-key" placeholder:"KEY" help:"The same, with the public half of a KMS key (kms:GetPublicKey)."`
	Save      string        `type:"path" placeholder:"FILE" help:"Keep every record in a new file, in clear, to be proved again offline."`
	Format    string        `enum:"text,json" default:"text" help:"text, or json."`
	Patience  time.Duration `default:"30s" help:"How long to wait at the end of the stream for records that others have overtaken."`

	connect.Flags `embed:""`
}

// Help is shown by --help.
func (Command) Help() string {
	return `Reads an activity stream as any consumer does, with Kinesis and KMS, and checks every epoch (one life of a server's ring): that no number is missing, that what came twice is the same to the byte, and that the hash chain holds all of it together. It says for each epoch whether it is complete, or which numbers are missing, when, and who told of it.

Needs kinesis:DescribeStreamSummary, kinesis:ListShards, kinesis:GetShardIterator, kinesis:GetRecords and kms:Decrypt.

Exit status: 0 where nothing is missing but what was told; 1 where something is missing that nobody told of, or was tampered with; 2 where it could not be checked, or not all of it.

Examples:
  weir verify                                  the mesh that weir dev runs here
  weir verify --from 1h --format json
  weir verify --stream aws-rds-das-cluster-A6TSYXITZCZXJHIRVFUBZ5LTWY --region eu-west-1 --public-key weir.pub
  weir verify --events notifier.example:7705
  weir events --format json > events.jsonl; weir verify --events events.jsonl
  weir verify --save january.jsonl             keep what was read
  weir verify --records january.jsonl --public-key weir.pub    prove it again, anywhere`
}

// Validate checks what can be checked without a stream.
func (c Command) Validate() error {
	_, _, err := c.times(time.Now())
	if err == nil && c.Records != "" && (c.From != "" || c.To != "" || c.Save != "") {
		err = errors.New("--records checks the whole file: --from, --to and --save do not go with it")
	}
	if err == nil && c.Patience < 0 {
		err = fmt.Errorf("--patience %s, want 0 or more", c.Patience)
	}
	return err
}

// times reads --from and --to.
func (c Command) times(now time.Time) (from, to time.Time, err error) {
	for _, f := range []struct {
		name, value string
		at          *time.Time
	}{{"--from", c.From, &from}, {"--to", c.To, &to}} {
		if f.value == "" || f.name == "--from" && strings.EqualFold(f.value, "trim-horizon") {
			continue
		}
		position, err := tail.ParsePosition(f.value, now)
		at, ok := position.Time()
		if err != nil || !ok {
			return from, to, fmt.Errorf("%s %s: want a time such as 2026-01-31T15:04:05Z, or how long ago such as 15m", f.name, f.value)
		}
		*f.at = at
	}
	if !from.IsZero() && !to.IsZero() && !from.Before(to) {
		return from, to, fmt.Errorf("--from %s is not before --to %s", c.From, c.To)
	}
	return from, to, nil
}

// Run checks, prints the answer, and returns it as an exit code.
func (c Command) Run(ctx context.Context, s terminal.Streams) error {
	answer, err := c.check(ctx, s)
	if err != nil {
		return &terminal.Failure{Code: exitUnknown, Err: err}
	}
	if c.Format == "json" {
		err = answer.json(s.Out)
	} else {
		err = answer.text(s.Out, terminal.StyleOf(s.Out))
	}
	switch {
	case err != nil:
		return err
	case answer.Exit != exitWhole:
		return &terminal.Failure{Code: answer.Exit}
	}
	return nil
}

func (c Command) check(ctx context.Context, s terminal.Streams) (a *answer, err error) {
	p := span{patience: c.Patience}
	if p.from, p.to, err = c.times(time.Now()); err != nil {
		return nil, err
	}
	opt := proof.Options{From: p.from, To: p.to}
	a = &answer{From: p.from, To: p.to}
	var src source
	if c.Records == "" {
		var file connect.File
		if src, file, err = c.source(ctx); err != nil {
			return nil, err
		}
		if c.PublicKey == "" && c.KMSKey == "" && c.Stream == "" {
			c.PublicKey = file.SigningPublicKeyFile
		}
		a.Stream, opt.Cluster = src.stream, src.cluster
		horizon, trimmed, err := src.limits(ctx)
		if err != nil {
			return nil, err
		}
		if !trimmed {
			opt.Made, a.made = horizon, horizon
		}
		if trimmed && p.from.Before(horizon.Add(lead)) {
			// The oldest records go while they are read: the first of them only
			// show where the beginning is.
			opt.From = horizon.Add(lead)
		}
		if !p.from.IsZero() && horizon.Before(p.from.Add(-lead)) {
			horizon = p.from.Add(-lead)
		}
		opt.Horizon = horizon
		a.live = p.to.IsZero()
	} else {
		a.Stream = c.Records
		opt.Horizon = time.Unix(1<<40, 0) // a file may begin anywhere
	}
	if opt.Key, err = c.key(ctx); err != nil {
		return nil, err
	}
	a.checkedKey = opt.Key != nil
	t, err := c.told(ctx)
	if err != nil {
		return nil, err
	}
	if t.close != nil {
		defer t.close()
	}
	r := &reading{checker: proof.New(opt)}
	defer r.checker.Close()
	t.end(r.checker)
	if c.Save != "" {
		done, err := c.save(r)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, done()) }() // what is not kept is no proof
	}
	stop := progress(r, s.Err)
	if c.Records != "" {
		err = readFile(ctx, r, c.Records)
	} else {
		err = src.read(ctx, r, p, slog.New(slog.NewTextHandler(s.Err, nil)))
	}
	stop()
	if err != nil {
		return nil, err
	}
	a.Interrupted = ctx.Err() != nil
	a.Locked, a.why = r.locked, r.why
	a.Report = r.checker.Report(nil)
	if ledger, err := t.ledger(ctx, a.Report); err != nil {
		return nil, err
	} else if ledger != nil {
		a.Report = r.checker.Report(ledger)
		a.Notes = t.notes
	}
	a.decide(time.Now())
	return a, nil
}

// source finds the stream, and says what describes its mesh.
func (c Command) source(ctx context.Context) (source, connect.File, error) {
	file, err := c.Resolve()
	if err != nil {
		return source{}, file, err
	}
	stream, cluster, err := tail.Find(ctx, file, c.Cluster, c.Stream)
	if err != nil {
		return source{}, file, err
	}
	cfg, err := file.AWS(ctx)
	if err != nil {
		return source{}, file, err
	}
	return source{kinesis: kinesis.NewFromConfig(cfg), kms: kms.NewFromConfig(cfg), stream: stream, cluster: cluster}, file, nil
}

// key reads the public key that was named, if one was.
func (c Command) key(ctx context.Context) (*proof.Key, error) {
	switch {
	case c.PublicKey != "":
		text, err := os.ReadFile(c.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("--public-key: %w", err)
		}
		key, err := proof.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("--public-key %s: %w", c.PublicKey, err)
		}
		return key, nil
	case c.KMSKey != "":
		file, err := c.Resolve()
		if err != nil {
			return nil, err
		}
		cfg, err := file.AWS(ctx)
		if err != nil {
			return nil, err
		}
		out, err := kms.NewFromConfig(cfg).GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &c.KMSKey})
		if err != nil {
			return nil, fmt.Errorf("--kms-key %s: asking KMS for the public key: %w", c.KMSKey, err)
		}
		key, err := proof.ParseKey(out.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("--kms-key %s: %w", c.KMSKey, err)
		}
		return key, nil
	}
	return nil, nil
}

// save has every record kept in a new file: one that is there may be somebody's
// only copy.
func (c Command) save(r *reading) (done func() error, err error) {
	f, err := os.OpenFile(c.Save, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("--save: %s is there already: name another file", c.Save)
	}
	if err != nil {
		return nil, fmt.Errorf("--save: %w", err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	r.save = w
	return func() error {
		if err := errors.Join(w.Flush(), f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("--save: %w", err)
		}
		return nil
	}, nil
}
