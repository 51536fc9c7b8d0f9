// Command crypto runs the crypto service.
package main

import (
	"github.com/weir-das/weir/pkg/service"
	"github.com/weir-das/weir/services/crypto"
)

func main() { service.Main("crypto", crypto.Run) }
