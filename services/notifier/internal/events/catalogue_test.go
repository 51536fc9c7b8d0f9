package events_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier/internal/events"
)

var update = flag.Bool("update", false, "write the catalogue into docs/events.md")

// Aurora's texts, to the letter: consumers compare them.
func TestAurorasEvents(t *testing.T) {
	want := map[notifierv1.EventKind][3]string{
		notifierv1.EventKind_EVENT_KIND_STREAM_STARTED: {"RDS-EVENT-0179", "configuration change", "Database Activity Streams is started on your database cluster."},
		notifierv1.EventKind_EVENT_KIND_STREAM_STOPPED: {"RDS-EVENT-0180", "configuration change", "Database Activity Streams is stopped on your database cluster."},
	}
	for _, e := range events.Catalogue() {
		w, ok := want[e.Kind]
		if !ok {
			continue
		}
		delete(want, e.Kind)
		if got := [3]string{e.ID, e.Category, e.Message}; got != w || e.SourceType != "db-cluster" || e.Detail {
			t.Errorf("%v = %+v, want %q on a db-cluster, without detail", e.Kind, e, w)
		}
	}
	if len(want) != 0 {
		t.Errorf("not in the catalogue: %v", want)
	}
}

// Every kind that the schema names has one entry, and ids are used once.
func TestTheCatalogueIsComplete(t *testing.T) {
	kinds := make(map[notifierv1.EventKind]bool)
	ids := make(map[string]bool)
	for _, e := range events.Catalogue() {
		if kinds[e.Kind] || ids[e.ID] {
			t.Errorf("%v (%s) is there twice", e.Kind, e.ID)
		}
		kinds[e.Kind], ids[e.ID] = true, true
		if !regexp.MustCompile(`^(RDS|WEIR)-EVENT-\d{4}$`).MatchString(e.ID) {
			t.Errorf("%v: id %q, want RDS-EVENT-nnnn or WEIR-EVENT-nnnn", e.Kind, e.ID)
		}
		if e.Message == "" || e.ToDo == "" || len(e.From) == 0 || e.SourceType == "" || e.Category == "" {
			t.Errorf("%v: %+v has an empty field", e.Kind, e)
		}
	}
	for n, name := range notifierv1.EventKind_name {
		if k := notifierv1.EventKind(n); k != notifierv1.EventKind_EVENT_KIND_UNSPECIFIED && !kinds[k] {
			t.Errorf("%s is not in the catalogue", name)
		}
	}
}

// The document shows the catalogue between two marks; the rest of it is prose.
func TestTheDocumentShowsTheCatalogue(t *testing.T) {
	file := filepath.Join("..", "..", "..", "..", "docs", "events.md")
	const begin, end = "<!-- catalogue: written by go test ./services/notifier/internal/events -update -->\n", "<!-- end of catalogue -->\n"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("ReadFile = %v", err)
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no %q and %q", file, begin, end)
	}
	want := table()
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatalf("WriteFile = %v", err)
		}
		return
	}
	if have != want {
		t.Errorf("%s shows\n%s\nwant\n%s\n(run with -update)", file, have, want)
	}
}

func table() string {
	var b strings.Builder
	b.WriteString("| id | about | category | message | what to do | told by |\n|---|---|---|---|---|---|\n")
	for _, e := range events.Catalogue() {
		message := e.Message
		if e.Detail {
			message += " *and what else is known*"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", e.ID, e.SourceType, e.Category, message, e.ToDo, strings.Join(e.From, ", "))
	}
	return b.String()
}
