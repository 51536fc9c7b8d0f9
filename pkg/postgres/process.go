package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a running postmaster.
type process struct {
	pid int
	// ended is closed when the postmaster was reaped; err says how it ended
	// and is read after that.
	ended chan struct{}
	err   error
}

const poll = 5 * time.Millisecond

// start runs the server and waits until it takes connections. A port of its
// own choice may be taken by another before it listens: then it chooses again.
func (s *Server) start(ctx context.Context) error {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		chosen := s.port == 0
		if chosen {
			port, err := freePort()
			if err != nil {
				return err
			}
			s.port = port
		}
		if err := s.configure(); err != nil {
			return err
		}
		var offset int64
		if info, err := os.Stat(s.LogFile()); err == nil {
			offset = info.Size()
		}
		err := s.run(ctx)
		if err == nil {
			return nil
		}
		tail := s.logTail(offset)
		err = errors.Join(fmt.Errorf("starting PostgreSQL: %w: %s", err, tail), os.RemoveAll(s.socketDir))
		if !chosen || attempt == attempts || !strings.Contains(tail, "could not create any TCP/IP sockets") {
			return err
		}
		s.port = 0
	}
}

func freePort() (int, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	return lis.Addr().(*net.TCPAddr).Port, lis.Close()
}

func (s *Server) run(ctx context.Context) error {
	log, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(s.binDir, "postgres"), "-D", s.dataDir())
	cmd.Dir = s.options.Dir
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: s.user.credential,
		// A group of its own: an interrupt typed at the terminal is for the
		// caller, who then decides how the server stops.
		Setpgid: true,
		// The caller died without stopping it.
		Pdeathsig: syscall.SIGQUIT,
	}
	p := &process{ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The death signal comes when the starting thread ends, so this
		// goroutine keeps its thread for as long as the server lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.err = cmd.Wait()
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return err
	}
	if err := s.waitReady(ctx, p); err != nil {
		return errors.Join(err, p.stop(syscall.SIGQUIT))
	}
	s.process = p
	return nil
}

// waitReady waits for the status line of postmaster.pid, which the postmaster
// writes once recovery is over and connections are taken.
func (s *Server) waitReady(ctx context.Context, p *process) error {
	const pidLine, statusLine = 0, 7
	for {
		text, err := os.ReadFile(filepath.Join(s.dataDir(), "postmaster.pid"))
		if err == nil {
			// The file of a killed server stays until the next one takes it.
			lines := bytes.Split(text, []byte("\n"))
			if len(lines) > statusLine && string(bytes.TrimSpace(lines[pidLine])) == strconv.Itoa(p.pid) &&
				string(bytes.TrimSpace(lines[statusLine])) == "ready" {
				return nil
			}
		}
		select {
		case <-p.ended:
			return fmt.Errorf("server ended: %w", endError(p.err))
		case <-ctx.Done():
			return fmt.Errorf("waiting for the server: %w", ctx.Err())
		case <-time.After(poll):
		}
	}
}

// endError makes the end of a server that should be running an error, also
// where it exited with 0.
func endError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// stop signals the postmaster and waits for its end. One that is gone already
// has stopped.
func (p *process) stop(signal syscall.Signal) error {
	if err := syscall.Kill(p.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signalling PostgreSQL: %w", err)
	}
	<-p.ended
	return nil
}

// kill ends the postmaster and waits for its children. It is halted first, so
// that the list of children is whole.
func (p *process) kill() error {
	if err := syscall.Kill(p.pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("halting PostgreSQL: %w", err)
	}
	children, err := childrenOf(p.pid)
	err = errors.Join(err, syscall.Kill(p.pid, syscall.SIGKILL))
	if err != nil {
		return fmt.Errorf("killing PostgreSQL: %w", err)
	}
	<-p.ended

	const patience = 5 * time.Second
	deadline := time.Now().Add(patience)
	for _, c := range children {
		for c.alive() {
			if time.Now().After(deadline) {
				// It may go by itself just now: that is what is wanted.
				if err := syscall.Kill(c.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
					return fmt.Errorf("killing a session: %w", err)
				}
			}
			time.Sleep(poll)
		}
	}
	return nil
}

// child is a process that its start time tells from a later one with its pid.
type child struct {
	pid     int
	started string
}

func childrenOf(parent int) ([]child, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []child
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ppid, started, ok := stat(pid); ok && ppid == parent {
			found = append(found, child{pid: pid, started: started})
		}
	}
	return found, nil
}

func (c child) alive() bool {
	_, started, ok := stat(c.pid)
	return ok && started == c.started
}

// stat reads a process's parent and start time; not ok for one that is gone
// or waits only to be reaped.
func stat(pid int) (ppid int, started string, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", false
	}
	// The name in parentheses may hold anything; fields count from behind it.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const state, parent, startTime = 0, 1, 19
	if len(fields) <= startTime || fields[state] == "Z" || fields[state] == "X" {
		return 0, "", false
	}
	ppid, err = strconv.Atoi(fields[parent])
	return ppid, fields[startTime], err == nil
}
