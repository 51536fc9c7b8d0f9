package cluster

import (
	"fmt"
	"io"
	"strconv"

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
		source := in.GetReport().GetSource()
		if source == "" {
			continue // the engine module
		}
		if _, err := fmt.Fprintf(w, "source of %s: %s\n", terminal.OneLine(in.GetInstanceId()), terminal.OneLine(source)); err != nil {
			return err
		}
	}
	return nil
}
