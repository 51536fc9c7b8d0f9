//go:build e2e

package compose_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// newcomer is how soon a replica that is added must have work. For crypto:
// max_connection_age of deploy/config/crypto.yaml and a tenth more, until its
// address is known; 8 s, until streams have had their turn; and some patience
// with a machine that has other things to do.
const newcomer = 33*time.Second + 8*time.Second + 20*time.Second

func TestCompose(t *testing.T) {
	p := newProject(t)
	// Each step stands on those before it.
	for _, step := range []struct {
		name string
		run  func(*project)
	}{
		{"1 everything comes up from nothing", fromNothing},
		{"2 what is graphed and documented is exported", exported},
		{"3 replicas share the work", scaled},
		{"4 whoever is killed, nothing is missing", killed},
		{"5 the ring outlives the server", ringStays},
		{"6 down and up again goes on with the data", downAndUp},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			q := *p
			q.t = t
			step.run(&q)
			p.scale = q.scale
		}) {
			return
		}
	}
}

func fromNothing(p *project) {
	p.up()
	if got := p.psql("select 42"); got != "42" {
		p.t.Fatalf("psql printed %q, want 42", got)
	}
	p.tailShows("select 42")
	p.psql("create table kept (v text)")
	p.must("exec", "-T", "postgres", "pgbench", "-h", "/tmp", "-U", "postgres", "-i", "-q", "-s", "2", "postgres")
}

// tailShows waits until a consumer reads the text.
func (p *project) tailShows(text string) {
	p.t.Helper()
	p.eventually(time.Minute, func() error {
		out, err := p.weir("tail", "--from", "trim-horizon", "--no-follow")
		if err == nil && !strings.Contains(out, text) {
			err = fmt.Errorf("weir tail does not show %q:\n%s", text, out)
		}
		return err
	})
}

func exported(p *project) {
	named, err := namedMetrics()
	if err != nil {
		p.t.Fatal(err)
	}
	p.eventually(30*time.Second, func() error {
		has := map[string]bool{}
		for service := range metricsPorts {
			all, err := p.metrics(service, 1)
			if err != nil {
				return err
			}
			for name := range all {
				has[name] = true
			}
		}
		for name, where := range named {
			if !has[name] {
				return fmt.Errorf("%s names the metric %s, which no service exports", where, name)
			}
		}
		return nil
	})
}

func scaled(p *project) {
	stop := p.keepBusy()
	defer stop()
	p.scale = []string{"--scale", "crypto=3", "--scale", "publisher=2"}
	p.up()
	began := time.Now()
	for service, want := range map[string]int{"crypto": 3, "publisher": 2} {
		if got := p.replicas(service); got != want {
			p.t.Fatalf("%d replicas of %s, want %d", got, service, want)
		}
	}
	first := map[string]time.Duration{}
	p.eventually(newcomer, func() (err error) {
		for _, r := range []struct {
			service string
			index   int
		}{{"crypto", 1}, {"crypto", 2}, {"crypto", 3}, {"publisher", 1}, {"publisher", 2}} {
			name := fmt.Sprintf("%s-%d", r.service, r.index)
			if first[name] != 0 {
				continue
			}
			all, askErr := p.metrics(r.service, r.index)
			switch {
			case askErr != nil:
				err = askErr
			case all["weir_"+r.service+"_out_total"] == 0:
				err = fmt.Errorf("%s has passed on nothing after %v", name, time.Since(began))
			default:
				first[name] = time.Since(began).Round(time.Second)
			}
		}
		return err
	})
	p.t.Logf("first work after: %v", first)

	// A fair share, not just one record: over some seconds, a tenth at least.
	before := p.passedOn()
	time.Sleep(20 * time.Second)
	after, sum := p.passedOn(), map[string]float64{}
	for name, n := range after {
		service, _, _ := strings.Cut(name, "-")
		sum[service] += n - before[name]
	}
	for name, n := range after {
		service, _, _ := strings.Cut(name, "-")
		share := (n - before[name]) / sum[service]
		p.t.Logf("%s: %.0f records in 20 s, %.0f %% of its service", name, n-before[name], 100*share)
		if share < 0.1 {
			p.t.Errorf("%s passed on %.1f %% of what %s did, want a tenth or more", name, 100*share, service)
		}
	}
}

// passedOn is how many records each replica has passed on.
func (p *project) passedOn() map[string]float64 {
	p.t.Helper()
	all := map[string]float64{}
	for service, n := range map[string]int{"crypto": 3, "publisher": 2} {
		for i := range n {
			m, err := p.metrics(service, i+1)
			if err != nil {
				p.t.Fatal(err)
			}
			all[fmt.Sprintf("%s-%d", service, i+1)] = m["weir_"+service+"_out_total"]
		}
	}
	return all
}

func killed(p *project) {
	stop := p.keepBusy()
	defer stop()
	for _, service := range []string{"crypto", "publisher", "capture", "nats", "control", "notifier"} {
		p.must("kill", "--signal", "KILL", service)
		time.Sleep(2 * time.Second)
		p.up()
		time.Sleep(3 * time.Second)
	}
	stop()
	account, at := p.settle()
	if len(account.Told) > 0 {
		p.t.Errorf("%d of %d numbers are told as lost, want none: no session died and the ring had room", len(account.Told), at.Number)
	}
	p.t.Logf("%d numbers, all there", at.Number)
}

func ringStays(p *project) {
	before, err := p.numbers()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, how := range [][]string{{"restart", "postgres"}, {"kill", "--signal", "KILL", "postgres"}} {
		stop := p.keepBusy()
		defer stop()
		time.Sleep(3 * time.Second)
		p.must(how...)
		p.up()
		p.eventually(time.Minute, func() error {
			_, err := p.try(time.Minute, "exec", "-T", "postgres", "psql", "-h", "/tmp", "-U", "postgres", "-c", "select 1")
			return err
		})
		time.Sleep(3 * time.Second)
		stop()
		account, at := p.settle()
		if at.Epoch != before.Epoch || at.Number <= before.Number {
			p.t.Errorf("after %s: epoch %d number %d, want epoch %d and a number after %d",
				strings.Join(how, " "), at.Epoch, at.Number, before.Epoch, before.Number)
		}
		for n, cause := range account.Told {
			if cause != "torn" {
				p.t.Errorf("number %d is told as %s, want torn: a session was killed while it wrote", n, cause)
			}
		}
		p.t.Logf("after %s: %d numbers, %d of them torn", strings.Join(how, " "), at.Number, len(account.Told))
		before = at
	}
}

func downAndUp(p *project) {
	before, err := p.numbers()
	if err != nil {
		p.t.Fatal(err)
	}
	// Down stops the server first, then capture, which delivers what the server
	// said last. These two alone, for the local Kinesis must be there to tell.
	p.psql("insert into kept values ('before')")
	p.must("stop", "postgres", "capture")
	p.tailShows("insert into kept values ('before')")

	p.must("down")
	p.up()
	// The ring was memory, and nobody was left to hold it.
	p.eventually(time.Minute, func() error {
		after, err := p.numbers()
		if err == nil && after.Epoch <= before.Epoch {
			err = fmt.Errorf("epoch %d after %d, want a newer one", after.Epoch, before.Epoch)
		}
		return err
	})
	if got := p.psql("select v from kept"); got != "before" {
		p.t.Errorf("the table holds %q, want what was written before", got)
	}
	p.tailShows("select v from kept")
}
