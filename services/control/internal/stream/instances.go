package stream

import (
	"fmt"
	"slices"
	"strings"
	"time"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
)

// Limits say how long captures are believed and waited for. Times of reports
// are by the clock of the replica that took them, so replicas' clocks must
// agree to well within LiveFor.
type Limits struct {
	LiveFor      time.Duration // a capture lives if it reported in the last LiveFor
	InstanceWait time.Duration // for captures that live and lag, or are gone, since they were told
}

// quiet is how long after it was told to be off a capture is not believed to be
// drained: a session that looked at the mode just before may still be numbering
// an event.
const quiet = time.Second

// state is what one instance has made of what it was told.
type state struct {
	live    bool
	done    bool
	problem string // empty if done and recording as it should
}

// judge looks at one instance's last report.
func judge(s registry.Stream, in registry.Instance, rep *controlv1.InstanceReport, now time.Time, lim Limits) state {
	if rep == nil {
		return state{problem: in.ID + ": no capture has reported"}
	}
	at := rep.GetReportedAt().AsTime()
	if now.Sub(at) > lim.LiveFor {
		return state{problem: fmt.Sprintf("%s: its capture has not reported since %s", in.ID, at.UTC().Format(time.RFC3339))}
	}
	st := state{live: true}
	switch {
	case rep.GetGeneration() < s.Told.Generation:
		st.problem = fmt.Sprintf("%s: its capture lives and has carried out generation %d, not yet %d", in.ID, rep.GetGeneration(), s.Told.Generation)
		if !rep.GetEngineRunning() {
			st.problem += "; no server with the module is running"
		}
	case !s.Told.Recording && rep.GetDurable() < rep.GetNumber():
		st.problem = in.ID + ": some of its events are not durable yet"
	case !s.Told.Recording && at.Sub(s.Told.At) < quiet:
		st.problem = in.ID + ": its last events are waited for"
	case s.Told.Recording && !rep.GetEngineRunning():
		st.done = true
		st.problem = in.ID + ": no server with the module is running"
	default:
		st.done = true
	}
	if rep.GetTrouble() != "" && (s.Told.Recording || rep.GetDurable() < rep.GetNumber()) {
		// What is recorded waits in the ring: nothing is lost yet, and somebody must act.
		also := in.ID + ": its records do not reach the journal: " + rep.GetTrouble()
		st.problem = strings.Join(slices.DeleteFunc([]string{st.problem, also}, func(s string) bool { return s == "" }), "; ")
	}
	return st
}

// settled reports whether the captures have done what they were told, or the
// stream goes on without those who have not, and what is missing.
//
// A start is settled when every instance that lives records and one does; after
// InstanceWait one that records is enough, for no laggard may keep the others'
// stream from being what it is. Instances that are gone hold no start up: they
// are told when they are back. With none that records the stream stays starting.
//
// A stop is settled when every instance is off and drained. After InstanceWait
// it goes on without the others: who is gone then delivers what is left in its
// ring when it is back, and is told to be off.
func settled(c registry.Cluster, reports map[string]*controlv1.InstanceReport, now time.Time, lim Limits) (ok bool, problem string) {
	var problems []string
	var done, lagging, gone int
	for _, in := range c.Instances {
		st := judge(c.Stream, in, reports[in.ID], now, lim)
		switch {
		case st.done:
			done++
		case st.live:
			lagging++
		default:
			gone++
		}
		if st.problem != "" {
			problems = append(problems, st.problem)
		}
	}
	waited := now.Sub(c.Stream.Told.At) >= lim.InstanceWait
	if c.Stream.Told.Recording {
		ok = done > 0 && (lagging == 0 || waited)
		if len(c.Instances) == 0 {
			problems = []string{"no instance is registered"}
		}
	} else {
		ok = lagging+gone == 0 || waited
	}
	return ok, summary(problems)
}

// Problem is what is wrong with a stream now: the transition's problem while
// there is one, the instances' when it has started.
func Problem(c registry.Cluster, reports map[string]*controlv1.InstanceReport, now time.Time, lim Limits) string {
	if c.Stream.Status != registry.Started {
		return c.Stream.Problem
	}
	_, problem := settled(c, reports, now, lim)
	return problem
}

// maxProblems bounds the text for clusters of many instances.
const maxProblems = 10

func summary(problems []string) string {
	if more := len(problems) - maxProblems; more > 0 {
		problems = append(problems[:maxProblems:maxProblems], fmt.Sprintf("and %d more instances", more))
	}
	return strings.Join(problems, "; ")
}
