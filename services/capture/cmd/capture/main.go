// Command capture runs the capture service.
package main

import (
	"github.com/weir-das/weir/pkg/service"
	"github.com/weir-das/weir/services/capture"
)

func main() { service.Main("capture", capture.Run) }
