package ring

import (
	"encoding/binary"
	"sync/atomic"
	"time"
	"unsafe"
)

const (
	headerMagic     = 0x474e495252494557 // "WEIRRING"
	layoutVersion   = 1
	headerSize      = 8192
	pageSize        = 4096
	minDataSize     = 64 << 10
	maxDataSize     = 64 << 30
	frameHeaderSize = 32
	frameAlign      = 32
	waitGroups      = 64
	maxSettings     = 4088

	// maxNumber is the last that a JSON number holds exactly. At a million events a second it lasts 285 years.
	maxNumber = 1<<53 - 1

	// What the bytes of the file mean to the kernel's open file description locks.
	engineLock  = 0
	captureLock = 1
)

// header is the table in engine/ring/ring.h, laid over the mapping. Every field that changes is atomic: the other half
// is another process.
type header struct {
	magic             atomic.Uint64
	layout            atomic.Uint32
	headerSize        atomic.Uint32
	dataSize          atomic.Uint64
	epoch             atomic.Uint64
	engine            atomic.Uint32
	serverVersion     atomic.Uint32
	state             atomic.Uint32
	serverPID         atomic.Int32
	startedUS         atomic.Uint64
	starts            atomic.Uint64
	serverVersionText [64]byte

	lock            atomic.Uint32
	_               uint32
	head            atomic.Uint64
	number          atomic.Uint64
	lost            atomic.Uint64
	unnumbered      atomic.Uint64
	released        atomic.Uint64
	releasedThrough atomic.Uint64
	releasedAtUS    atomic.Uint64

	gapSequence atomic.Uint32
	_           uint32
	gapFirst    atomic.Uint64
	gapLast     atomic.Uint64
	gapFromUS   atomic.Uint64
	gapToUS     atomic.Uint64
	_           [24]byte

	tail          atomic.Uint64
	stored        atomic.Uint64
	durable       atomic.Uint64
	capturePID    atomic.Int32
	_             uint32
	captureSeenUS atomic.Uint64
	path          atomic.Uint32
	_             uint32
	refused       atomic.Uint64
	_             [8]byte

	mode             atomic.Uint32
	syncLevel        atomic.Uint32
	onFailure        atomic.Uint32
	syncTimeoutMS    atomic.Uint32
	policyGeneration atomic.Uint64
	_                [40]byte

	bell          atomic.Uint32
	captureSleeps atomic.Uint32
	_             [56]byte

	activeCheckpoint atomic.Uint32
	_                uint32
	cutSequence      atomic.Uint64
	cutFirst         atomic.Uint64
	cutLast          atomic.Uint64
	cutFromUS        atomic.Uint64
	cutToUS          atomic.Uint64
	_                [16]byte
	checkpoints      [2]checkpoint
	_                [256]byte

	waitGroups [waitGroups]waitGroup
	source     [2 * sourceSlot]byte // a Writer's alone, while nobody else looks
	_          [2304]byte

	settingsLength atomic.Uint32
	settingsCRC    atomic.Uint32
	settings       [maxSettings]byte
}

type checkpoint struct {
	tail   atomic.Uint64
	number atomic.Uint64
	hash   [4]atomic.Uint64
	lost   atomic.Uint64
	atUS   atomic.Uint64

	spooled     atomic.Uint64
	durableHash [4]atomic.Uint64
	_           [24]byte
}

type waitGroup struct {
	futex   atomic.Uint32
	waiters atomic.Uint32
}

// The compiler refuses an index that is not 0: a field that has moved.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(header{})-headerSize]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.serverVersionText)-64]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.lock)-128]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.head)-136]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.unnumbered)-160]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.released)-168]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.releasedAtUS)-184]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.gapSequence)-192]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.gapToUS)-224]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.tail)-256]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.captureSeenUS)-288]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.path)-296]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.refused)-304]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.mode)-320]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.policyGeneration)-336]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.bell)-384]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.activeCheckpoint)-448]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.cutSequence)-456]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.checkpoints)-512]
	_ = [1]struct{}{}[unsafe.Sizeof(checkpoint{})-128]
	_ = [1]struct{}{}[unsafe.Offsetof(checkpoint{}.lost)-48]
	_ = [1]struct{}{}[unsafe.Offsetof(checkpoint{}.durableHash)-72]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.waitGroups)-1024]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.source)-1536]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.settingsLength)-4096]
	_ = [1]struct{}{}[unsafe.Offsetof(header{}.settings)-4104]
)

const (
	frameReserved  = 0
	frameCommitted = 1
	frameTorn      = 2

	kindEvent = 1
	kindGap   = 2
	kindPad   = 3
)

// frame is a copy of a frame's header.
type frame struct {
	commit uint32
	length uint32
	number uint64
	kind   uint32
	timeUS uint64
}

// frameAt copies the header of the frame at a multiple of frameAlign. The commit word is read first, and orders the rest
// after what its writer did.
func (r *Ring) frameAt(at uint64) frame {
	offset := at % r.size
	b := r.data[offset : offset+frameHeaderSize]
	commit := (*atomic.Uint32)(unsafe.Pointer(&b[0])).Load()
	if commit == frameReserved {
		return frame{}
	}
	return frame{
		commit: commit,
		length: binary.LittleEndian.Uint32(b[4:]),
		number: binary.LittleEndian.Uint64(b[8:]),
		kind:   binary.LittleEndian.Uint32(b[16:]),
		timeUS: binary.LittleEndian.Uint64(b[24:]),
	}
}

// payload is where the frame's payload lies in the mapping; it can change while one looks. The frame was checked.
func (r *Ring) payload(at uint64, f frame) []byte {
	offset := at%r.size + frameHeaderSize
	return r.data[offset : offset+uint64(f.length)]
}

func frameSize(length uint32) uint64 {
	return (frameHeaderSize + uint64(length) + frameAlign - 1) &^ (frameAlign - 1)
}

// head is where the engine will write next. Nothing but another's write makes it lie between frames; the engine then
// writes nothing until it restarts, and goes on at the next multiple, as here.
func (r *Ring) head() uint64 {
	return (r.h.head.Load() + frameAlign - 1) &^ (frameAlign - 1)
}

// lastUS is the end of the year 9999, the last that has a place in a record.
const lastUS = 253402300799999999

// timeOf takes a time from the ring, which may be any number.
func timeOf(us uint64) time.Time {
	return time.UnixMicro(int64(min(us, lastUS))).UTC()
}
