// Command notifier runs the notifier service.
package main

import (
	"github.com/weir-das/weir/pkg/service"
	"github.com/weir-das/weir/services/notifier"
)

func main() { service.Main("notifier", notifier.Run) }
