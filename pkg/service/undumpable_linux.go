package service

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Undumpable keeps what this process has in memory (statements in clear, data keys) out of core dumps and away from
// debuggers of the same user: it clears the dumpable attribute and sets the core limit to nothing. Root can do without
// either. It is for processes that hold clear text and nothing else: in a shared one it is the owner's decision.
func Undumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("clearing the dumpable attribute: %w", err)
	}
	// With fs.suid_dumpable 2 the kernel dumps undumpable processes too, for root to read.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("setting the core limit to nothing: %w", err)
	}
	return nil
}
