// Command publisher runs the publisher service.
package main

import (
	"github.com/weir-das/weir/pkg/service"
	"github.com/weir-das/weir/services/publisher"
)

func main() { service.Main("publisher", publisher.Run) }
