package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// dev is a running `weir dev`.
type dev struct {
	bin, dir string
	cmd      *exec.Cmd
	exited   chan error
	output   bytes.Buffer

	connect string
	dsn     string
}

// startDev starts weir dev in a directory of its own and returns when it is ready.
func startDev(ctx context.Context, bin string) (*dev, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "weir-demo-")
	if err != nil {
		return nil, err
	}
	d := &dev{bin: bin, dir: dir, connect: filepath.Join(dir, "ready.json"), exited: make(chan error, 1)}
	d.cmd = exec.Command(filepath.Join(bin, "weir"), "dev", "--quiet", "--data", filepath.Join(dir, "data"), "--ready-file", d.connect)
	d.cmd.Stdout, d.cmd.Stderr = &d.output, &d.output
	// A Ctrl-C is ours to pass on, once.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting weir dev: %w", err)
	}
	go func() { d.exited <- d.cmd.Wait() }()
	if err := d.ready(ctx); err != nil {
		d.cmd.Process.Signal(os.Interrupt)
		<-d.exited
		return nil, fmt.Errorf("%w\n%s", err, d.output.String())
	}
	return d, nil
}

func (d *dev) ready(ctx context.Context) error {
	for {
		if b, err := os.ReadFile(d.connect); err == nil {
			var c struct {
				DSN string `json:"postgres_dsn"`
			}
			if err := json.Unmarshal(b, &c); err != nil {
				return fmt.Errorf("%s: %w", d.connect, err)
			}
			d.dsn = c.DSN
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("weir dev is not ready: %w", ctx.Err())
		case err := <-d.exited:
			d.exited <- err
			return fmt.Errorf("weir dev ended at once: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop ends weir dev as Ctrl-C does, and fails if it does not end well.
func (d *dev) stop() error {
	d.cmd.Process.Signal(os.Interrupt)
	select {
	case err := <-d.exited:
		if err != nil {
			return fmt.Errorf("weir dev did not end well: %w\n%s", err, d.output.String())
		}
		return os.RemoveAll(d.dir)
	case <-time.After(time.Minute):
		d.cmd.Process.Kill()
		return fmt.Errorf("weir dev does not stop; its directory is %s\n%s", d.dir, d.output.String())
	}
}

// weir runs a command against the mesh and returns what it printed.
func (d *dev) weir(ctx context.Context, args ...string) ([]byte, error) {
	return output(exec.CommandContext(ctx, filepath.Join(d.bin, "weir"), append(args, "--connect", d.connect)...))
}

func output(cmd *exec.Cmd) ([]byte, error) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, errs.String())
	}
	return out, nil
}
