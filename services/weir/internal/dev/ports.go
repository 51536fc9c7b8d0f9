package dev

import (
	"fmt"
	"net"
	"strconv"
)

// listen opens a port on loopback: the one asked for, which must then be
// free, or the usual one if it is free, or any.
func listen(what string, asked, usual int) (net.Listener, error) {
	port := asked
	if port == 0 {
		port = usual
	}
	lis, err := net.Listen("tcp", address(port))
	if err != nil && asked == 0 {
		lis, err = net.Listen("tcp", address(0))
	}
	if err != nil {
		return nil, fmt.Errorf("opening a port for %s: %w: name another, or none to take any that is free", what, err)
	}
	return lis, nil
}

// choose is listen for servers that open their port themselves. Another
// process may take the port in between; the server then says so.
func choose(what string, asked, usual int) (int, error) {
	lis, err := listen(what, asked, usual)
	if err != nil {
		return 0, err
	}
	return lis.Addr().(*net.TCPAddr).Port, lis.Close()
}

// prefer is choose for servers that find a free port better than we could: 0
// tells them to.
func prefer(what string, asked, usual int) (int, error) {
	port, err := choose(what, asked, usual)
	if err == nil && asked == 0 && port != usual {
		port = 0
	}
	return port, err
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
