package enginetest_test

import (
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memcheckError is one error as valgrind writes it in XML.
type memcheckError struct {
	Kind  string `xml:"kind"`
	What  string `xml:"what"`
	XWhat struct {
		Text string `xml:"text"`
	} `xml:"xwhat"`
	Stacks []struct {
		Frames []memcheckFrame `xml:"frame"`
	} `xml:"stack"`
}

type memcheckFrame struct {
	Object   string `xml:"obj"`
	Function string `xml:"fn"`
	File     string `xml:"file"`
	Line     int    `xml:"line"`
}

func (e memcheckError) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s%s", e.Kind, e.What, e.XWhat.Text)
	for _, s := range e.Stacks {
		for _, f := range s.Frames {
			fmt.Fprintf(&b, "\n   %s (%s:%d) %s", f.Function, f.File, f.Line, f.Object)
		}
		b.WriteString("\n   --")
	}
	return b.String()
}

// What our hooks call to let the server work: what fails inside them is the server's.
var passedOn = regexp.MustCompile(`^(standard_\w+|pgss_\w+|socket_\w+|internal_\w+)$`)

// isOurs says whether an error is the module's: walking from where it happened outwards, the module is met before anything
// that it merely lets work. A use of memory that the module allocated or freed is its error too, whoever makes it.
func (e memcheckError) isOurs() bool {
	for i, s := range e.Stacks {
		for j, f := range s.Frames {
			if passedOn.MatchString(f.Function) {
				break
			}
			if strings.HasSuffix(f.Object, "weir.so") {
				// The second stack says who allocated: palloc'd memory comes from whoever needed the block.
				return i == 0 || j <= 1
			}
		}
	}
	return false
}

// memcheckErrors reads one process's file. That of a process that was killed stops anywhere.
func memcheckErrors(r io.Reader) (errors []memcheckError, whole bool, err error) {
	d := xml.NewDecoder(r)
	for {
		token, err := d.Token()
		if err == io.EOF {
			return errors, true, nil
		}
		if err != nil {
			return errors, false, nil
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "error" {
			var e memcheckError
			if err := d.DecodeElement(&e, &start); err != nil {
				return errors, false, nil
			}
			errors = append(errors, e)
		}
	}
}

// What counts as the module's error, and what does not.
func TestMemcheckJudgement(t *testing.T) {
	frames := func(names ...string) string {
		var b strings.Builder
		b.WriteString("<stack>")
		for _, name := range names {
			function, object, _ := strings.Cut(name, "@")
			fmt.Fprintf(&b, "<frame><obj>/x/%s</obj><fn>%s</fn></frame>", object, function)
		}
		return b.String() + "</stack>"
	}
	tests := []struct {
		name, stacks string
		want         bool
	}{
		{"in the module", frames("weir_put_params@weir.so", "weir_start@weir.so", "ExecutorStart@postgres"), true},
		{"in what the module calls", frames("strlen@libc.so.6", "weir_put_string@weir.so"), true},
		{"in a function of the server that the module calls", frames("pg_ltoa@postgres", "put_param@weir.so"), true},
		{"in what runs inside a hook", frames("ExecScan@postgres", "standard_ExecutorRun@postgres", "weir_run@weir.so"), false},
		{"elsewhere", frames("write@libc.so.6", "XLogWrite@postgres"), false},
		{"the server uses what the module freed", frames("strcmp@libc.so.6", "guc@postgres") + frames("free@vgpreload_memcheck", "release@weir.so"), true},
		{"memory of the server's contexts, first needed by the module", frames("memcpy@libc.so.6", "x@postgres") +
			frames("malloc@vgpreload_memcheck", "AllocSetAlloc@postgres", "weir_name@weir.so"), false},
	}
	for _, tt := range tests {
		errors, whole, err := memcheckErrors(strings.NewReader("<valgrindoutput><error><kind>K</kind>" + tt.stacks + "</error></valgrindoutput>"))
		if err != nil || !whole || len(errors) != 1 {
			t.Fatalf("%s: read %d errors, whole %v, %v", tt.name, len(errors), whole, err)
		}
		if diff := cmp.Diff(tt.want, errors[0].isOurs()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if _, whole, _ := memcheckErrors(strings.NewReader("<valgrindoutput><error><kind>K")); whole {
		t.Error("a file that stops half-way counts as whole")
	}
}
