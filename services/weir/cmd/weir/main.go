// Command weir is Weir's command line, and the whole mesh on one machine.
package main

import (
	"os"

	"github.com/weir-das/weir/services/weir"
)

func main() { os.Exit(weir.Main(os.Args[1:], os.Stdout, os.Stderr)) }
