package dev

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSize(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Size
	}{
		{"1048576", 1 << 20}, {"64kB", 64 << 10}, {"64KiB", 64 << 10}, {"128MiB", 128 << 20}, {"128 mb", 128 << 20}, {"2G", 2 << 30}, {"1B", 1},
		{"", 0}, {"MiB", 0}, {"0", 0}, {"-1MiB", 0}, {"1.5GiB", 0}, {"12TiB", 0}, {"9999999999GiB", 0}, {"1 2", 0}, {"1MiBB", 0},
	} {
		var got Size
		err := got.UnmarshalText([]byte(c.in))
		if got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("size of %q = %d, %v, want %d", c.in, got, err, c.want)
		}
	}
	for in, want := range map[Size]string{64 << 10: "64 KiB", 128 << 20: "128 MiB", 2 << 30: "2 GiB", 3 << 29: "1536 MiB"} {
		if got := in.String(); got != want {
			t.Errorf("%d = %q, want %q", int64(in), got, want)
		}
	}
}

// A spool is there where one is asked for, or where an earlier start left records.
func TestOpenSpool(t *testing.T) {
	d := &directory{path: t.TempDir()}
	if s, err := openSpool(d, 0); err != nil || s != (spool{}) {
		t.Errorf("none asked for, none left: %+v, %v", s, err)
	}
	asked, err := openSpool(d, 64<<20)
	if err != nil || asked.config.Dir != d.spool() || asked.config.MaxBytes != 64<<20 {
		t.Errorf("asked for 64 MiB: %+v, %v", asked, err)
	}
	key, err := os.ReadFile(asked.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(d.spool(), 0o700), os.WriteFile(filepath.Join(d.spool(), "0000000000000001.spool"), make([]byte, 5000), 0o600)); err != nil {
		t.Fatal(err)
	}
	left, err := openSpool(d, 0)
	if err != nil || left.config.Dir != d.spool() || left.config.MaxBytes != 5000 || left.keyFile != asked.keyFile {
		t.Errorf("5000 bytes left: %+v, %v", left, err)
	}
	if same, err := os.ReadFile(left.keyFile); err != nil || !bytes.Equal(same, key) {
		t.Errorf("the key was made anew, and opens nothing of what is left: %v", err)
	}
}

func FuzzSize(f *testing.F) {
	for _, s := range []string{"128MiB", "1", "9223372036854775807G", "1 B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got Size
		if err := got.UnmarshalText([]byte(s)); err == nil && got <= 0 {
			t.Errorf("size of %q = %d, want more than nothing or an error", s, got)
		}
	})
}

func TestFitRing(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	if got, err := fitRing(none, 0); err != nil || got < leastRing || got > usualRing {
		t.Errorf("fitRing(0) = %v, %v, want %v at most", got, err, usualRing)
	}
	if got, err := fitRing(none, 1<<20); err != nil || got != 1<<20 {
		t.Errorf("fitRing(1 MiB) = %v, %v, want what was asked for", got, err)
	}
	if _, err := fitRing(none, 1<<50); err == nil || !strings.Contains(err.Error(), "--ring-size") {
		t.Errorf("fitRing(1 PiB) = %v, want an error that names --ring-size", err)
	}
}

func TestListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	lis, err := listen("x", 0, port)
	if err != nil {
		t.Fatalf("listen with the usual port taken = %v, want another", err)
	}
	defer lis.Close()
	if got := lis.Addr().(*net.TCPAddr).Port; got == port {
		t.Errorf("listen took %d twice", got)
	}
	if _, err := listen("x", port, 0); err == nil {
		t.Error("listen on a port that is asked for and taken = nil, want an error")
	}
	free, err := choose("x", 0, port)
	if err != nil {
		t.Fatal(err)
	}
	again, err := listen("x", free, 0)
	if err != nil {
		t.Fatalf("the chosen port %d is not free: %v", free, err)
	}
	again.Close()
	if got, err := prefer("x", 0, port); err != nil || got != 0 {
		t.Errorf("prefer with the usual port taken = %d, %v, want 0 for any", got, err)
	}
	if got, err := prefer("x", 0, free); err != nil || got != free {
		t.Errorf("prefer with the usual port free = %d, %v, want it, %d", got, err, free)
	}
}

func TestDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d, err := openDirectory(path, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{path, filepath.Dir(path)} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o711 {
			t.Errorf("%s: %v, %v, want mode 0711", dir, info.Mode(), err)
		}
	}
	if _, err := openDirectory(path, false); err == nil || !strings.Contains(err.Error(), "another weir dev") {
		t.Errorf("openDirectory twice = %v, want an error that says who has it", err)
	}
	first := d.ring()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = openDirectory(path, false); err != nil {
		t.Fatalf("openDirectory after Close = %v", err)
	}
	defer d.Close()
	other := &directory{path: path + "2"}
	if d.ring() != first || other.ring() == first {
		t.Errorf("rings %s, %s, %s: want one for each directory, always the same", first, d.ring(), other.ring())
	}
}

// PostgreSQL's user must get to the data. What keeps it out is named, and so
// is a place that does not.
func TestReachable(t *testing.T) {
	if os.Geteuid() != 0 {
		d, err := openDirectory(filepath.Join(t.TempDir(), "x"), true)
		if err != nil {
			t.Fatalf("openDirectory as somebody who runs the server himself = %v", err)
		}
		d.Close()
		return
	}
	open, err := os.MkdirTemp("", "weir-reach-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(open)
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	shut := filepath.Join(open, "shut")
	if err := os.Mkdir(shut, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := openDirectory(filepath.Join(shut, "data"), true); err == nil || !strings.Contains(err.Error(), shut+" (mode 0700)") || !strings.Contains(err.Error(), "use --data ") {
		t.Errorf("openDirectory below a closed directory = %v, want an error that names it and the way out", err)
	}
	d, err := openDirectory(filepath.Join(open, "data"), true)
	if err != nil {
		t.Fatalf("openDirectory below an open one = %v", err)
	}
	d.Close()
}

func TestLogs(t *testing.T) {
	name := filepath.Join(t.TempDir(), "weir.log")
	var news bytes.Buffer
	for range 2 {
		l, err := openLogs(name, "info", &news)
		if err != nil {
			t.Fatal(err)
		}
		log := l.of("x")
		log.Debug("unwanted")
		log.Warn("while it starts")
		l.loud.Store(true)
		log.Info("fine")
		log.With(slog.String("k", "v")).WithGroup("g").Warn("listen to this", "n", 1)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{name, name + ".1"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(b), "\n"); got != 3 || strings.Contains(string(b), "unwanted") {
			t.Errorf("%s has %d lines, want 3:\n%s", file, got, b)
		}
	}
	if got := news.String(); strings.Count(got, "\n") != 2 || strings.Count(got, `msg="listen to this" service=x k=v g.n=1`) != 2 {
		t.Errorf("the terminal got\n%s\nwant the warnings of the time it ran", got)
	}
}

func TestParts(t *testing.T) {
	p := newParts()
	var order []string
	for _, name := range []string{"first", "second"} {
		p.start(name, func(ctx context.Context) error {
			<-ctx.Done()
			order = append(order, name) // one after the other: stop waits for each
			return nil
		})
	}
	if err := p.stop(); err != nil {
		t.Errorf("stop = %v, want nil", err)
	}
	if len(order) != 2 || order[0] != "second" {
		t.Errorf("stopped in the order %v, want the last started first", order)
	}

	p.start("bad", func(context.Context) error { return errors.New("broken") })
	if err := <-p.failed; err == nil || err.Error() != "bad: broken" {
		t.Errorf("a part that fails tells %v, want bad: broken", err)
	}
	p.start("lazy", func(context.Context) error { return nil })
	if err := <-p.failed; err == nil || !strings.Contains(err.Error(), "lazy ended by itself") {
		t.Errorf("a part that ends tells %v", err)
	}
	if err := p.stop(); err == nil || !strings.Contains(err.Error(), "stopping bad: broken") {
		t.Errorf("stop = %v, want the error of the part that failed", err)
	}
}

func TestClearEnvironment(t *testing.T) {
	t.Setenv("WEIR_TEST_X_ONE", "1")
	restore := clearEnvironment("WEIR_TEST_X_")
	if _, ok := os.LookupEnv("WEIR_TEST_X_ONE"); ok {
		t.Error("clearEnvironment left a variable")
	}
	os.Setenv("WEIR_TEST_X_TWO", "2")
	restore()
	if got := os.Getenv("WEIR_TEST_X_ONE"); got != "1" {
		t.Errorf("restored %q, want 1", got)
	}
	if _, ok := os.LookupEnv("WEIR_TEST_X_TWO"); ok {
		t.Error("restore left a variable that was not there before")
	}
}

func TestFindModule(t *testing.T) {
	if _, err := findModule("/nowhere/weir.so"); err == nil || !strings.Contains(err.Error(), "--module") {
		t.Errorf("findModule of a file that does not exist = %v, want an error that names --module", err)
	}
	name := filepath.Join(t.TempDir(), "m.so")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := findModule(name); err != nil || got != name {
		t.Errorf("findModule(%s) = %s, %v", name, got, err)
	}
}
