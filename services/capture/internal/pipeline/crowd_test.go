package pipeline

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

func TestCrowdIsOfTwoRecords(t *testing.T) {
	var c crowd
	for pid := range int32(20) {
		c.saw(4000 + pid)
		c.saw(4000 + pid)
	}
	if n := c.size(); n != 20 {
		t.Errorf("%d sessions in the open record, want 20", n)
	}
	c.turn()
	c.saw(4000)
	c.saw(5000)
	if n := c.size(); n != 21 {
		t.Errorf("%d sessions in two records, want 21", n)
	}
	c.turn()
	c.turn()
	if n := c.size(); n != 0 {
		t.Errorf("%d sessions after two records without one, want none", n)
	}
}

func TestBusyIsMoreThanTheProcessors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "loadavg")
	write := func(content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("0.00 0.00 0.00 1/80 11206\n")
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	l := &load{file: file}
	defer l.close()
	processors := runtime.NumCPU()
	for content, want := range map[string]bool{
		"0.20 0.18 0.12 " + strconv.Itoa(processors) + "/80 11206\n":         false,
		"12.20 10.18 9.12 " + strconv.Itoa(processors+1) + "/8000 1120611\n": true,
		"0.20 0.18": false,
		"":          false,
		"a b c d/e": false,
	} {
		write(content)
		if got := l.busy(); got != want {
			t.Errorf("busy() with %q and %d processors = %v, want %v", content, processors, got, want)
		}
	}
	if (&load{}).busy() {
		t.Error("busy without a file to read")
	}
}

// What the system really says can be read.
func TestLoadIsRead(t *testing.T) {
	l := newLoad()
	defer l.close()
	l.busy()
	if l.buf[0] == 0 {
		t.Error("nothing was read from /proc/loadavg")
	}
}
