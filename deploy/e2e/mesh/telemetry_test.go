package mesh_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/jackc/pgx/v5"

	"github.com/weir-das/weir/deploy/e2e/mesh"
)

// secret is in every statement that these tests run: in text, bind values,
// names and errors. Nobody but a consumer may ever see it.
const secret = "xyzzy_0penSesame"

// One mesh that tells all it can, at its most talkative: its traces and metrics
// say what they should, and neither they nor a log nor a byte at rest holds
// anything of a statement.
func TestTelemetryTellsTheWayAndNothingElse(t *testing.T) {
	otlp, url := startCollector(t)
	metrics := map[string]string{}
	environment := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + url, "OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_METRIC_EXPORT_INTERVAL=500"}
	for _, name := range services {
		metrics[name] = unusedAddr(t)
		prefix := "WEIR_" + strings.ToUpper(name) + "_OBS__"
		environment = append(environment, prefix+"METRICS_LISTEN="+metrics[name], prefix+"LOG_LEVEL=debug")
	}
	m := mesh.Start(t, mesh.Options{Environment: environment})
	confide(t, m)
	account, numbers := m.Settle(t)
	found := 0
	for _, e := range account.All() {
		found += bytes.Count(e.Raw, []byte(secret))
	}
	if found < 8 {
		t.Fatalf("the secret is in the stream %d times, want it in each place: the search below would prove nothing", found)
	}

	t.Run("trace", func(t *testing.T) { oneTraceToKinesis(t, m, otlp) })
	t.Run("metrics", func(t *testing.T) { hopsBalance(t, metrics, account.Kept()) })
	t.Run("memory", func(t *testing.T) { memoryIsLeftOut(t, m) })
	t.Run("trouble", func(t *testing.T) { // has more to say than good weather
		m.Kill(mesh.Crypto)
		confide(t, m)
		m.StartProcess(mesh.Crypto)
		m.Kill(mesh.Capture)
		m.StartProcess(mesh.Capture)
		if account, later := m.Settle(t); len(account.Told) > 0 || later.Number <= numbers.Number {
			t.Errorf("%+v after %+v, %d lost", later, numbers, len(account.Told))
		}
	})
	t.Run("secret", func(t *testing.T) {
		for _, name := range services {
			keeps(t, "/metrics of "+name, scrape(t, metrics[name]))
		}
		keepsAtRest(t, m)
		for _, name := range services { // they flush what they have
			m.Terminate(name)
		}
		keepsFiles(t, m)
		otlp.mu.Lock()
		defer otlp.mu.Unlock()
		if len(otlp.all) < 10 {
			t.Errorf("%d exports, want many", len(otlp.all))
		}
		for _, request := range otlp.all {
			keeps(t, "an export", request)
		}
	})
}

func unusedAddr(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

// confide puts the secret everywhere that a statement has room for one.
func confide(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	m.Psql("postgres", strings.ReplaceAll(`
CREATE TABLE IF NOT EXISTS vault_SECRET (word text);
INSERT INTO vault_SECRET VALUES ('SECRET');
SELECT * FROM vault_SECRET WHERE word = 'SECRET';
SELECT "no_such_SECRET";
SELEKT 'SECRET';
SELECT 'SECRET'::int;
DO $$ BEGIN PERFORM 'SECRET'; RAISE EXCEPTION 'SECRET'; END $$;
`, "SECRET", secret))
	m.Psql("nobody_"+secret, "SELECT 1")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, m.Postgres.DSN("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "SELECT length($1)", secret); err != nil {
		t.Fatal(err)
	}
}

// oneTraceToKinesis looks for a trace that holds the whole way of a record,
// each part the child of the one before it.
func oneTraceToKinesis(t *testing.T, m *mesh.Mesh, otlp *collector) {
	way := []struct{ service, name string }{
		{"capture", "capture.record"}, {"crypto", "seal"}, {"publisher", "relay"}, {"publisher", "Kinesis PutRecords"},
	}
	mesh.Eventually(t, 20*time.Second, func() error {
		otlp.mu.Lock()
		defer otlp.mu.Unlock()
		longest := 0
		for _, first := range otlp.spans {
			if first.service != way[0].service || first.GetName() != way[0].name || len(first.GetParentSpanId()) > 0 {
				continue
			}
			at, steps := first, 1
			for _, next := range way[1:] {
				for _, s := range otlp.spans {
					if s.service == next.service && s.GetName() == next.name &&
						bytes.Equal(s.GetTraceId(), first.GetTraceId()) && bytes.Equal(s.GetParentSpanId(), at.GetSpanId()) {
						at = s
						steps++
						break
					}
				}
			}
			longest = max(longest, steps)
			if steps == len(way) && strings.Contains(fmt.Sprint(otlp.spans), m.KinesisStream) {
				return nil
			}
		}
		return fmt.Errorf("of %d spans no trace goes the way %v; the longest has %d of its parts", len(otlp.spans), way, longest)
	})
}

// hopsBalance checks the three numbers of each hop: nothing waits, so what came
// in went out, and capture took in what the stream holds.
func hopsBalance(t *testing.T, metrics map[string]string, events int) {
	for _, name := range []string{mesh.Capture, mesh.Crypto, mesh.Publisher, mesh.Notifier} {
		mesh.Eventually(t, 20*time.Second, func() error {
			text := scrape(t, metrics[name])
			in, errIn := value(text, "weir_"+name+"_in_total")
			out, errOut := value(text, "weir_"+name+"_out_total")
			oldest, errOldest := value(text, "weir_"+name+"_oldest_waiting_seconds")
			switch err := errors.Join(errIn, errOut, errOldest); {
			case err != nil:
				return err
			case in == 0 || in-out > 1: // a heartbeat may be on its way
				return fmt.Errorf("%s took in %v and passed on %v", name, in, out)
			case oldest > 10:
				return fmt.Errorf("something waits at %s for %v s", name, oldest)
			case name == mesh.Capture && int(in) != events:
				return fmt.Errorf("capture took in %v, the stream holds %d", in, events)
			}
			return nil
		})
	}
	// Control is not on the way of an event; what waits there are streams.
	text := scrape(t, metrics[mesh.Control])
	if n, err := value(text, `weir_control_streams{status="started"}`); err != nil || n != 1 {
		t.Errorf("control says that %v streams are started (%v), want 1", n, err)
	}
	if _, err := value(text, "weir_control_oldest_transition_seconds"); err != nil {
		t.Error(err)
	}
}

func scrape(t *testing.T, addr string) string {
	t.Helper()
	_, text := get(t, "http://"+addr+"/metrics")
	return text
}

// get asks over HTTP, whatever the answer says.
func get(t *testing.T, url string) (code int, says string) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// value finds a series in what Prometheus scrapes.
func value(text, series string) (float64, error) {
	for line := range strings.Lines(text) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == series {
			return strconv.ParseFloat(number, 64)
		}
	}
	return 0, fmt.Errorf("no series %s", series)
}

// forms are what the secret may look like: as it is, and as bytes are written.
var forms = func() (all []string) {
	all = append(all, secret, hex.EncodeToString([]byte(secret)))
	for shift := range 3 { // of the bytes before it
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), secret...))
		all = append(all, text[4:len(text)-4])
	}
	return all
}()

// keeps checks that a text says nothing of the secret.
func keeps(t *testing.T, where, text string) {
	t.Helper()
	for _, form := range forms {
		if at := strings.Index(text, form); at >= 0 {
			t.Errorf("%s holds a statement: …%q…", where, text[max(0, at-80):min(len(text), at+80)])
			return
		}
	}
}

// keepsAtRest reads every record as Kinesis keeps it.
func keepsAtRest(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	k, ctx := m.Kinesis(), t.Context()
	shards, err := k.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &m.KinesisStream})
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	for _, shard := range shards.Shards {
		it, err := k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
			StreamName: &m.KinesisStream, ShardId: shard.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
		})
		if err != nil {
			t.Fatal(err)
		}
		page, err := k.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			records++
			keeps(t, "a record in Kinesis", string(r.Data))
			keeps(t, "a partition key", *r.PartitionKey)
		}
	}
	if records == 0 {
		t.Error("no record was looked at")
	}
}

// keepsFiles reads every file of the mesh, logs, journal and KMS's state among
// them, but those of the database server, which has the statements by right.
func keepsFiles(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	seen := map[string]int{}
	err := filepath.WalkDir(m.Path(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if path == m.Path("postgres") {
				return fs.SkipDir
			}
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		keeps(t, path, string(content))
		seen[filepath.Ext(path)]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen[".log"] < 7 || seen[".blk"] == 0 || seen[".json"] < 2 {
		t.Errorf("files by kind: %v; want seven logs, the journal's blocks and the state of KMS among them", seen)
	}
}
