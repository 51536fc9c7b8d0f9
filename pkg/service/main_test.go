package service_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-das/weir/pkg/service"
)

// behaviour, an environment variable, makes this test binary a service that behaves so.
const behaviour = "TEST_SERVICE_BEHAVIOUR"

func TestMain(m *testing.M) {
	if os.Getenv(behaviour) != "" {
		service.Main("capture", run)
	}
	goleak.VerifyTestMain(m)
}

func run(ctx context.Context, cfg config, log *slog.Logger) error {
	log.Debug("configured", "region", cfg.Region)
	switch os.Getenv(behaviour) {
	case "fail":
		return errors.New("no ring at /dev/shm/weir")
	case "drain":
		<-ctx.Done()
		return nil
	case "cancelled":
		<-ctx.Done()
		return fmt.Errorf("pipeline: %w", ctx.Err())
	case "undumpable":
		return undumpable()
	case "hang":
		<-ctx.Done()
		select {}
	}
	return nil
}

// start runs the service as a process of its own.
func start(t *testing.T, how string, env []string, args ...string) (cmd *exec.Cmd, stdout *bytes.Buffer, stderr io.ReadCloser) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(env, behaviour+"="+how)
	stdout = &bytes.Buffer{}
	cmd.Stdout = stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stdout, stderr
}

func finish(t *testing.T, cmd *exec.Cmd, stderr io.Reader) (code int, log string) {
	t.Helper()
	rest, err := io.ReadAll(stderr)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code says it
	return cmd.ProcessState.ExitCode(), string(rest)
}

func TestExitCodes(t *testing.T) {
	good := write(t, "batch_size: 3\nregion: x\n")
	bad := write(t, "regoin: x\nbatch_size: 0\nwait: 5\n")
	for name, tt := range map[string]struct {
		how  string
		args []string
		env  []string
		code int
		out  []string // in what it prints, wherever
	}{
		"done":              {"return", nil, nil, 0, []string{`"msg":"stopped"`, `"service":"capture"`}},
		"undumpable":        {"undumpable", nil, nil, 0, nil},
		"run fails":         {"fail", nil, nil, 1, []string{`"err":"no ring at /dev/shm/weir"`}},
		"check, good":       {"fail", []string{"--check", "--config", good}, nil, 0, []string{"is good"}},
		"check, bad":        {"fail", []string{"--check", "--config", bad}, nil, 1, []string{"unknown key regoin", "region", "wait", "unit", "batch_size: want 1 or more"}},
		"bad without check": {"fail", []string{"--config", bad}, nil, 1, []string{"unknown key regoin"}},
		"no such file":      {"fail", []string{"--config", "/nowhere.yaml"}, nil, 1, []string{"/nowhere.yaml"}},
		"bad environment":   {"fail", []string{"--check"}, []string{"WEIR_CAPTURE_REGOIN=x"}, 1, []string{"WEIR_CAPTURE_REGOIN", "WEIR_CAPTURE_REGION"}},
		"unknown flag":      {"fail", []string{"--chekc"}, nil, 2, []string{"chekc", "capture --help"}},
		"stray argument":    {"fail", []string{"now"}, nil, 2, []string{`"now"`}},
		"version":           {"fail", []string{"--version"}, nil, 0, []string{"capture "}},
		"log level":         {"return", nil, []string{"WEIR_CAPTURE_OBS__LOG_LEVEL=debug"}, 0, []string{`"msg":"configured"`}},
		"help": {"fail", []string{"--help"}, nil, 0, []string{"--config FILE", "--check", "rpc.max_connection_age", "WEIR_CAPTURE_RPC__MAX_CONNECTION_AGE",
			"duration", "5m", "AWS region", "eu-central-1", "list of {url, every}", "map of string to list of string", "true or false"}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, stdout, stderr := start(t, tt.how, tt.env, tt.args...)
			code, log := finish(t, cmd, stderr)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.out {
				if !strings.Contains(stdout.String()+log, want) {
					t.Errorf("no %q in\n%s%s", want, stdout, log)
				}
			}
			if strings.Contains(stdout.String(), "Hook") {
				t.Errorf("help lists a field that is no setting:\n%s", stdout)
			}
		})
	}
}

func TestSignals(t *testing.T) {
	for name, tt := range map[string]struct {
		how     string
		signals []os.Signal
		code    int
	}{
		"SIGTERM drains":            {"drain", []os.Signal{syscall.SIGTERM}, 0},
		"SIGINT drains":             {"drain", []os.Signal{os.Interrupt}, 0},
		"cancelled is a clean stop": {"cancelled", []os.Signal{syscall.SIGTERM}, 0},
		"the second exits at once":  {"hang", []os.Signal{syscall.SIGTERM, os.Interrupt}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, _, stderr := start(t, tt.how, nil)
			lines := bufio.NewReader(stderr)
			// Each signal goes out when the process has said that it is ready for it.
			for i, ready := range []string{"starting", "stopping"}[:len(tt.signals)] {
				line, err := lines.ReadString('\n')
				if err != nil || !strings.Contains(line, ready) {
					t.Fatalf("log = %q, %v, want %q", line, err, ready)
				}
				if err := cmd.Process.Signal(tt.signals[i]); err != nil {
					t.Fatal(err)
				}
			}
			if code, log := finish(t, cmd, lines); code != tt.code {
				t.Errorf("exit code %d, want %d; log:\n%s", code, tt.code, log)
			}
		})
	}
}
