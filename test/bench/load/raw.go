package load

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Go's scheduler is not told of the calls in this file. While one waits, it would get another thread ready; and from who
// has the processor for ten milliseconds it takes it in the middle of a call, and looks after him fifty times as often
// from then on. That would be most of what is measured, and the more of it the longer a measurement takes, as with an
// agent. Programs in C have nothing like it.

// RawRead is read(2).
func RawRead(fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func rawWrite(fd int, b []byte) error {
	_, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return errno
	}
	return nil
}

// rawOpen opens a file, whose name ends with a NUL, for reading.
func rawOpen(name *byte) (int, error) {
	here := unix.AT_FDCWD
	fd, _, errno := syscall.RawSyscall(unix.SYS_OPENAT, uintptr(here), uintptr(unsafe.Pointer(name)), unix.O_RDONLY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

func rawClose(fd int) error {
	_, _, errno := syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
