// Command control runs the control service.
package main

import (
	"github.com/weir-das/weir/pkg/service"
	"github.com/weir-das/weir/services/control"
)

func main() { service.Main("control", control.Run) }
