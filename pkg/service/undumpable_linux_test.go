package service_test

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weir-das/weir/pkg/service"
)

// undumpable reports whether Undumpable does what it says. It runs in a process of its own, which it cannot undo.
func undumpable() error {
	if err := service.Undumpable(); err != nil {
		return err
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || dumpable != 0 {
		return fmt.Errorf("dumpable = %d, %w", dumpable, err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core != (unix.Rlimit{}) {
		return errors.Join(fmt.Errorf("core limit = %+v", core), err)
	}
	return nil
}
