// Package bench measures Weir and prints what goes into docs/benchmarks.md.
// Its tests have the build tag bench, take minutes, and want a machine for
// themselves: `make bench`. What it measures, against what, and how, is in
// deploy/bench/README.md.
package bench
