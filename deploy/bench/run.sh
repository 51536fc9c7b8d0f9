#!/bin/sh
# Measures, and prints the tables of docs/benchmarks.md. Takes about half an
# hour and wants the machine for itself. Arguments go to the tests:
#   deploy/bench/run.sh -rounds 1 -cells 'select simple'
set -eu
cd "$(dirname "$0")/../.."
echo "── through crypto: events/s and core"
go test -run '^$' -bench . -benchtime 2s ./services/crypto/... ./services/capture/internal/render ./services/capture/internal/ring ./pkg/esdk
echo "── pgbench: no audit, pgaudit, the ring drained by a sink, the whole mesh"
go test -v -tags bench -count=1 -timeout 2h -run TestPgbench ./deploy/e2e/bench -args "$@"
echo "── synchronous mode: throughput and what one client waits"
go test -v -tags bench -count=1 -timeout 2h -run TestSync ./deploy/e2e/bench -args "$@"
echo "── where the module's time goes: ns an event and step, by perf"
go test -v -tags bench -count=1 -timeout 2h -run TestAccount ./deploy/e2e/bench -args -rounds 3
echo "── seconds from statement to Kinesis"
go test -v -tags bench -count=1 -timeout 1h -run TestDelay ./deploy/e2e/bench
echo "── a process that stands still"
go test -v -tags bench -count=1 -timeout 1h -run TestStall ./deploy/e2e/bench
