package dev

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Size is a number of bytes, written as 128MiB, 64MB or 1048576.
type Size int64

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	in := strings.ToUpper(strings.TrimSpace(string(text)))
	digits := strings.TrimRight(in, "KMGIB ")
	unit := strings.TrimSpace(in[len(digits):])
	// PostgreSQL's units, and therefore its meaning of MB.
	units := map[string]int64{
		"": 1, "B": 1,
		"K": 1 << 10, "KB": 1 << 10, "KIB": 1 << 10,
		"M": 1 << 20, "MB": 1 << 20, "MIB": 1 << 20,
		"G": 1 << 30, "GB": 1 << 30, "GIB": 1 << 30,
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	factor, known := units[unit]
	if err != nil || !known || n <= 0 || n > (1<<62)/factor {
		return fmt.Errorf("%q is no size: want a number with B, KiB, MiB or GiB, such as 128MiB", text)
	}
	*s = Size(n * factor)
	return nil
}

func (s Size) String() string {
	switch {
	case s >= 1<<30 && s%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", s>>30)
	case s >= 1<<20:
		return fmt.Sprintf("%d MiB", s>>20)
	default:
		return fmt.Sprintf("%d KiB", s>>10)
	}
}

// The ring's size where none is asked for, and the least that makes sense to
// take instead where there is less memory.
const (
	usualRing = Size(128 << 20)
	leastRing = Size(8 << 20)
)

// fitRing settles the ring's size: what was asked for if there is room, and
// without a wish the usual size, halved until it fits.
func fitRing(file string, asked Size) (Size, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(shared, &fs); err != nil {
		return 0, fmt.Errorf("the ring lies in %s, which this system does not have: %w", shared, err)
	}
	room := Size(fs.Bavail) * Size(fs.Bsize)
	if info, err := os.Stat(file); err == nil {
		room += Size(info.Size()) // it is taken up again, or replaced
	}
	if asked != 0 {
		if asked > room {
			return 0, fmt.Errorf("a ring of %s does not fit into %s, which has %s free: use a smaller --ring-size, or enlarge it (docker run --shm-size)", asked, shared, room)
		}
		return asked, nil
	}
	size := usualRing
	for size > leastRing && size > room/2 {
		size /= 2
	}
	if size > room {
		return 0, fmt.Errorf("%s has %s free, too little for a ring: enlarge it (docker run --shm-size 256m)", shared, room)
	}
	return size, nil
}
