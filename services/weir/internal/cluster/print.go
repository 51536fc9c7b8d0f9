package cluster

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/weir/internal/terminal"
)

// PrintStream prints a stream as label and value, one a line.
func PrintStream(w io.Writer, st *controlv1.Stream) error {
	lines := [][2]string{{"stream", StatusName(st.GetStatus())}}
	if st.GetStatusSince() != nil {
		lines[0][1] += " since " + st.GetStatusSince().AsTime().Format("2006-01-02 15:04:05Z")
	}
	if st.GetKinesisStream() != "" {
		lines = append(lines, [][2]string{
			{"mode", modeOf(st)},
			{"KMS key", st.GetKmsKeyId()},
			{"Kinesis", st.GetKinesisStream()},
			{"layout", word(st.GetRecordLayout().String(), "RECORD_LAYOUT_")},
		}...)
	}
	if st.GetProblem() != "" {
		lines = append(lines, [2]string{"problem", st.GetProblem()})
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%-11s  %s\n", l[0], terminal.OneLine(l[1])); err != nil {
			return err
		}
	}
	return nil
}

// modeOf says how sessions and the stream go together.
func modeOf(st *controlv1.Stream) string {
	mode := word(st.GetMode().String(), "STREAM_MODE_")
	if st.GetMode() != controlv1.StreamMode_STREAM_MODE_SYNC {
		return mode
	}
	return fmt.Sprintf("%s, level %s, on failure %s, time-out %v", mode, word(st.GetSyncLevel().String(), "SYNC_LEVEL_"),
		word(st.GetOnFailure().String(), "FAILURE_POLICY_"), st.GetSyncTimeout().AsDuration())
}

// PrintInstances prints instances and what their captures last said.
func PrintInstances(w io.Writer, instances []*controlv1.Instance) error {
	if len(instances) == 0 {
		_, err := fmt.Fprintln(w, "\nno instances")
		return err
	}
	var rows [][]string
	for _, in := range instances {
		row := []string{in.GetInstanceId(), "never heard of", "-", "-", "-", "-", "-", "-", "-", in.GetInstanceResourceId()}
		if r := in.GetReport(); r != nil {
			row[1] = "down"
			if r.GetEngineRunning() {
				row[1] = "running"
			}
			if r.GetEngineVersion() != "" {
				row[1] += " (" + r.GetEngineVersion() + ")"
			}
			row[2] = strconv.FormatUint(r.GetNumber(), 10)
			row[3] = strconv.FormatUint(r.GetDurable(), 10)
			row[4] = strconv.FormatUint(r.GetLost(), 10)
			row[5] = word(r.GetPath().String(), "PATH_STATE_")
			row[6] = strconv.FormatUint(r.GetReleased(), 10)
			row[7] = strconv.FormatUint(r.GetRefused(), 10)
			row[8] = r.GetReportedAt().AsTime().Format("15:04:05Z")
		}
		rows = append(rows, row)
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if err := terminal.Table(w, []string{"INSTANCE", "ENGINE", "NUMBER", "DURABLE", "LOST", "PATH", "RELEASED", "REFUSED", "AS OF", "RESOURCE ID"}, rows); err != nil {
		return err
	}
	for _, in := range instances {
		for _, l := range [][2]string{
			{"source", in.GetReport().GetSource()}, // empty of the engine module
			{"spool", spoolOf(in.GetReport().GetSpool())},
			{"without a number", unnumberedOf(in.GetReport().GetUnnumbered())},
		} {
			if l[1] == "" {
				continue
			}
			if _, err := fmt.Fprintf(w, "%s of %s: %s\n", l[0], terminal.OneLine(in.GetInstanceId()), terminal.OneLine(l[1])); err != nil {
				return err
			}
		}
	}
	return nil
}

// unnumberedOf says how many events are lost that no number counts; nothing
// where none is.
func unnumberedOf(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d events, lost: the ring's lock was not to be had", n)
}

// spoolOf says what a spool holds, since when, and what becomes of it; nothing
// where there is none.
func spoolOf(s *controlv1.Spool) string {
	if s == nil {
		return ""
	}
	if s.GetState() == controlv1.SpoolState_SPOOL_STATE_EMPTY {
		return "empty, room for " + size(s.GetMaxBytes())
	}
	does := map[controlv1.SpoolState]string{
		controlv1.SpoolState_SPOOL_STATE_WAITING:  ", waiting for the journal",
		controlv1.SpoolState_SPOOL_STATE_DRAINING: ", draining into the journal",
		controlv1.SpoolState_SPOOL_STATE_FULL:     ", FULL: what the ring has no room for is lost",
	}[s.GetState()]
	since := ""
	if s.GetSince() != nil {
		since = " since " + s.GetSince().AsTime().Format("2006-01-02 15:04:05Z")
	}
	return fmt.Sprintf("%s of %s, %d events%s%s", size(s.GetUsedBytes()), size(s.GetMaxBytes()), s.GetEvents(), since, does)
}

// size is a number of bytes as people read it.
func size(bytes uint64) string {
	for _, unit := range []struct {
		name  string
		bytes uint64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if bytes >= unit.bytes {
			return strings.TrimSuffix(strconv.FormatFloat(float64(bytes)/float64(unit.bytes), 'f', 1, 64), ".0") + " " + unit.name
		}
	}
	return fmt.Sprint(bytes, " B")
}
