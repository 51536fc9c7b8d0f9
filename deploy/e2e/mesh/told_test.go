package mesh_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/weir-das/weir/deploy/e2e/mesh"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// soon is how soon the first event of a window is promised (docs/events.md).
const soon = 5 * time.Second

// watching is a `weir events --watch` that runs.
type watching struct {
	m    *mesh.Mesh
	cmd  *exec.Cmd
	done chan error

	mu   sync.Mutex
	seen []sight
}

// sight is an event, and when it was printed.
type sight struct {
	event *notifierv1.Event
	at    time.Time
}

func watch(t *testing.T, m *mesh.Mesh) *watching {
	t.Helper()
	w := &watching{m: m, done: make(chan error, 1)}
	w.cmd = exec.Command(m.Program("weir"), "events", "--watch", "--format", "json")
	w.cmd.Env = append(os.Environ(), "WEIR_CONNECT="+m.Connect)
	w.cmd.Stderr = os.Stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			s := sight{&notifierv1.Event{}, time.Now()}
			if err := protojson.Unmarshal(lines.Bytes(), s.event); err != nil {
				t.Errorf("weir events --watch printed %s: %v", lines.Text(), err)
			}
			w.mu.Lock()
			w.seen = append(w.seen, s)
			w.mu.Unlock()
		}
		w.done <- w.cmd.Wait()
	}()
	return w
}

// await waits for an event.
func (w *watching) await(t *testing.T, what string, is func(*notifierv1.Event) bool) (found sight) {
	t.Helper()
	mesh.Eventually(t, 60*time.Second, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, s := range w.seen {
			if is(s.event) {
				found = s
				return nil
			}
		}
		return fmt.Errorf("weir events --watch does not print %s, of %d events", what, len(w.seen))
	})
	return found
}

// opens waits for the first event of a window, of which the reason was given then,
// and checks that it came soon after it began; closes for its second. What is
// known by what was seen last begins a little before then.
func (w *watching) opens(t *testing.T, cause notifierv1.Cause, then time.Time) *notifierv1.Window {
	t.Helper()
	s := w.await(t, cause.String()+" opening", func(e *notifierv1.Event) bool {
		win := e.GetWindow()
		return win.GetOpen() && win.GetCause() == cause && win.GetBegin().AsTime().After(then.Add(-5*time.Second))
	})
	from := s.event.GetOccurredAt().AsTime()
	if from.Before(then) {
		from = then
	}
	began := time.Now()
	w.m.MustWeir("events", "windows") // as slow as this machine is
	if late, slack := s.at.Sub(from), 5*time.Since(began); late > soon+slack {
		t.Errorf("%s was told %v after it began, want within %v: %v", s.event.GetEventId(), late, soon, s.event)
	}
	return s.event.GetWindow()
}

func (w *watching) closes(t *testing.T, opened *notifierv1.Window) *notifierv1.Window {
	t.Helper()
	return w.await(t, opened.GetId()+" closing", func(e *notifierv1.Event) bool {
		return e.GetWindow().GetId() == opened.GetId() && !e.GetWindow().GetOpen()
	}).event.GetWindow()
}

// end is Ctrl-C. What was printed is what is kept, each event once.
func (w *watching) end(t *testing.T) {
	t.Helper()
	kept := map[string]int{}
	for line := range strings.Lines(w.m.MustWeir("events", "--format", "json")) {
		e := &notifierv1.Event{}
		if err := protojson.Unmarshal([]byte(line), e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		kept[e.GetIdempotencyKey()]++
	}
	for key := range kept {
		w.await(t, key, func(e *notifierv1.Event) bool { return e.GetIdempotencyKey() == key })
	}
	if err := w.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := <-w.done; err != nil {
		t.Errorf("weir events --watch ends with %v after Ctrl-C", err)
	}
	printed := map[string]bool{}
	for _, s := range w.seen {
		if key := s.event.GetIdempotencyKey(); printed[key] {
			t.Errorf("weir events --watch printed %s twice", key)
		} else {
			printed[key] = true
		}
	}
}

// hook is a receiver of webhooks that refuses until it is told otherwise.
type hook struct {
	m     *mesh.Mesh
	takes atomic.Bool
	mu    sync.Mutex
	taken []string // keys
}

// refusingHook makes the notifier of a mesh that has not begun deliver to it.
func refusingHook(t *testing.T, m *mesh.Mesh) *hook {
	t.Helper()
	h := &hook{m: m}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event struct{ ID string }
		if !h.takes.Load() {
			http.Error(w, "not today", http.StatusServiceUnavailable)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
			t.Errorf("a webhook: %v", err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.taken = append(h.taken, event.ID)
	}))
	t.Cleanup(server.Close)
	secret := m.Path("hook.secret")
	file, err := os.OpenFile(m.Path("notifier.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprintf(file, "sinks:\n  - {name: siem, type: webhook, url: %q, secret_file: %s, max_attempts: 2, categories: [configuration change]}\n",
			server.URL, secret)
		err = errors.Join(err, file.Close(), os.WriteFile(secret, []byte("a secret of more than 16 bytes"), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// isADeadLetter checks what an operator sees of an event that a receiver does not
// take: that it was given up and why; that trying again is refused while the
// receiver refuses; and that it is delivered, once, when the receiver is back.
func (h *hook) isADeadLetter(t *testing.T) {
	t.Helper()
	mesh.Eventually(t, 60*time.Second, func() error {
		out := h.m.MustWeir("events", "dead-letters")
		if !containsAll(out, "TRIED", "siem", "RDS-EVENT-0179", "test", " 2 ", "503") {
			return fmt.Errorf("no dead letter of the start of the stream:\n%s", out)
		}
		return nil
	})
	if out := h.m.MustWeir("events", "dead-letters", "--sink", "another"); strings.Contains(out, "siem") {
		t.Errorf("dead letters of another sink:\n%s", out)
	}
	letters := &notifierv1.ListDeadLettersResponse{}
	if err := protojson.Unmarshal([]byte(h.m.MustWeir("events", "dead-letters", "--sink", "siem", "--json")), letters); err != nil || len(letters.GetDeadLetters()) == 0 {
		t.Fatalf("dead letters as JSON: %v, %v", letters, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := h.m.Weir(ctx, "events", "dead-letters", "--retry"); err == nil || !containsAll(out, "are left", "503") {
		t.Errorf("a retry while the receiver refuses: %v\n%s", err, out)
	}
	h.takes.Store(true)
	if out := h.m.MustWeir("events", "dead-letters", "--retry", "--sink", "siem"); !containsAll(out, "DELIVERED", fmt.Sprint("siem  ", len(letters.GetDeadLetters()))) {
		t.Errorf("a retry prints:\n%s", out)
	}
	if out := h.m.MustWeir("events", "dead-letters"); strings.Contains(out, "siem") {
		t.Errorf("there are dead letters still:\n%s", out)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range letters.GetDeadLetters() {
		n := 0
		for _, key := range h.taken {
			if key == l.GetEvent().GetIdempotencyKey() {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s was delivered %d times, want once", l.GetEvent().GetIdempotencyKey(), n)
		}
	}
}
