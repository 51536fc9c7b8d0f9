//go:build e2e

package compose_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// metricsPorts are where the services export, inside their containers.
var metricsPorts = map[string]string{"control": "7711", "capture": "7712", "crypto": "7713", "publisher": "7714", "notifier": "7715"}

// metrics asks one replica, counted from 1.
func (p *project) metrics(service string, index int) (map[string]float64, error) {
	addr, err := p.try(time.Minute, "port", "--index", strconv.Itoa(index), service, metricsPorts[service])
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + strings.TrimSpace(addr) + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics of %s: %s", service, resp.Status)
	}
	return parseMetrics(resp.Body)
}

// parseMetrics reads Prometheus's text format; series of one name are added up.
func parseMetrics(r io.Reader) (map[string]float64, error) {
	all := map[string]float64{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		name := line[:strings.IndexAny(line+" ", "{ ")]
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics line %q: %w", line, err)
		}
		all[name] += value
	}
	return all, lines.Err()
}

var metricName = regexp.MustCompile(`\bweir_[a-z_]+`)

// namedMetrics are the metrics that the dashboard and the documentation speak of.
func namedMetrics() (map[string]string, error) {
	named := map[string]string{}
	board, err := os.ReadFile("../../config/observability/grafana/dashboards/weir.json")
	if err != nil {
		return nil, err
	}
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(board, &dashboard); err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			for _, name := range metricName.FindAllString(target.Expr, -1) {
				named[name] = "the dashboard"
			}
		}
	}
	if len(named) == 0 {
		return nil, fmt.Errorf("the dashboard names no metric")
	}
	docs, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		return nil, err
	}
	for _, name := range metricName.FindAllString(string(docs), -1) {
		named[name] = "docs/operations.md"
	}
	return named, nil
}
