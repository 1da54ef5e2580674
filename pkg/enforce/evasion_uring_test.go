package enforce_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/io_uring.h.
const (
	uringSendmsg = 9
	uringConnect = 16
	uringOpenat  = 18
	uringRead    = 22
	uringAsync   = 1 << 4 // flag: not by the caller but by its worker

	uringOffQueue   = 0
	uringOffAnswers = 0x8000000
	uringOffEntries = 0x10000000
)

type uringOffsets struct {
	Head, Tail, Mask, D, E, F, G, H uint32
	_                               uint64
}

type uringParams struct {
	_       uint32
	Count   uint32 // of answers
	_       [8]uint32
	Queue   uringOffsets // G: array
	Answers uringOffsets // F: answers
}

type uringEntry struct {
	Op, Flags    uint8
	_            uint16
	Fd           int32
	Off, Addr    uint64
	Len, OpFlags uint32
	_            [4]uint64
}

// uring is an io_uring for one request at a time.
type uring struct {
	fd                      int
	params                  uringParams
	queue, answers, entries []byte
}

func newUring() (*uring, error) {
	u := &uring{}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&u.params)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	u.fd = int(fd)
	var errs [3]error
	u.queue, errs[0] = u.mapAt(uringOffQueue, int(u.params.Queue.G)+4)
	u.answers, errs[1] = u.mapAt(uringOffAnswers, int(u.params.Answers.F)+16*int(u.params.Count))
	u.entries, errs[2] = u.mapAt(uringOffEntries, int(unsafe.Sizeof(uringEntry{})))
	return u, errors.Join(errs[:]...)
}

func (u *uring) mapAt(offset int64, size int) ([]byte, error) {
	m, err := unix.Mmap(u.fd, offset, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map io_uring at %#x, %d bytes: %w", offset, size, err)
	}
	return m, nil
}

func (u *uring) close() {
	for _, m := range [][]byte{u.queue, u.answers, u.entries} {
		_ = unix.Munmap(m)
	}
	_ = unix.Close(u.fd)
}

// do submits a request and returns its result.
func (u *uring) do(e uringEntry) (int, error) {
	*(*uringEntry)(unsafe.Pointer(unsafe.SliceData(u.entries))) = e
	q, a := u.params.Queue, u.params.Answers
	binary.NativeEndian.PutUint32(u.queue[q.G:], 0)
	binary.NativeEndian.PutUint32(u.queue[q.Tail:], binary.NativeEndian.Uint32(u.queue[q.Tail:])+1)
	const getEvents = 1
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(u.fd), 1, 1, getEvents, 0, 0); errno != 0 {
		return 0, errno
	}
	head := binary.NativeEndian.Uint32(u.answers[a.Head:])
	answer := u.answers[a.F+16*(head&binary.NativeEndian.Uint32(u.answers[a.Mask:])):]
	binary.NativeEndian.PutUint32(u.answers[a.Head:], head+1)
	if result := int32(binary.NativeEndian.Uint32(answer[8:])); result < 0 {
		return 0, syscall.Errno(-result)
	} else {
		return int(result), nil
	}
}

func lacksUring() string {
	u, err := newUring()
	if err != nil {
		return err.Error()
	}
	u.close()
	return ""
}

func withUring(do func(u *uring, pin *runtime.Pinner) error) error {
	u, err := newUring()
	if err != nil {
		return err
	}
	defer u.close()
	var pin runtime.Pinner
	defer pin.Unpin()
	return do(u, &pin)
}

func pinned[T any](pin *runtime.Pinner, p *T) uint64 {
	pin.Pin(p)
	return uint64(uintptr(unsafe.Pointer(p)))
}

// uringOpen opens and reads the secret.
func uringOpen(flags uint8) func(string) error {
	return func(dir string) error {
		return withUring(func(u *uring, pin *runtime.Pinner) error {
			path := append([]byte(dir+"/"+vaultFile), 0)
			fd, err := u.do(uringEntry{Op: uringOpenat, Flags: flags, Fd: unix.AT_FDCWD, Addr: pinned(pin, &path[0]), OpFlags: unix.O_CLOEXEC})
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			content := make([]byte, len(secret))
			n, err := u.do(uringEntry{Op: uringRead, Fd: int32(fd), Addr: pinned(pin, &content[0]), Len: uint32(len(content))})
			if err != nil || string(content[:n]) != secret {
				return errors.Join(err, errEmptyHanded)
			}
			return nil
		})
	}
}

// rawLoopback is a sockaddr_in.
func rawLoopback(port int) *unix.RawSockaddrInet4 {
	a := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: [4]byte{127, 0, 0, 1}}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&a.Port))[:], uint16(port))
	return a
}

func uringConnectTo(port int) error {
	return withSocket(unix.AF_INET, unix.SOCK_STREAM, func(fd int) error {
		return withUring(func(u *uring, pin *runtime.Pinner) error {
			_, err := u.do(uringEntry{Op: uringConnect, Fd: int32(fd), Off: unix.SizeofSockaddrInet4, Addr: pinned(pin, rawLoopback(port))})
			return err
		})
	})
}

// uringSendTo sends a message to an address.
func uringSendTo(kind, flags, port int) error {
	return withSocket(unix.AF_INET, kind, func(fd int) error {
		return withUring(func(u *uring, pin *runtime.Pinner) error {
			address, content := rawLoopback(port), []byte("x")
			pinned(pin, address)
			pinned(pin, &content[0])
			vector := &unix.Iovec{Base: &content[0], Len: 1}
			pinned(pin, vector)
			message := &unix.Msghdr{Name: (*byte)(unsafe.Pointer(address)), Namelen: unix.SizeofSockaddrInet4, Iov: vector, Iovlen: 1}
			_, err := u.do(uringEntry{Op: uringSendmsg, Fd: int32(fd), Addr: pinned(pin, message), Len: 1, OpFlags: uint32(flags)})
			return err
		})
	})
}
