package ring

import (
	"fmt"
	"runtime/debug"
	"unsafe"

	"github.com/weir-das/weir/pkg/fault"
)

// guarded runs f, which touches the mapping mem. Where the file was cut short the kernel answers a touch with SIGBUS;
// the error then matches ErrFault and is fault.NotReady, for a server that starts anew makes another ring.
func guarded(mem []byte, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			at, ok := p.(interface{ Addr() uintptr })
			base := uintptr(unsafe.Pointer(unsafe.SliceData(mem)))
			if !ok || at.Addr() < base || at.Addr() >= base+uintptr(len(mem)) {
				panic(p) // a bug of ours
			}
			err = fault.As(fault.NotReady, fmt.Errorf("%w, at offset %d", ErrFault, at.Addr()-base))
		}
	}()
	return f()
}
