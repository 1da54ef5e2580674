package enforce

import "golang.org/x/sys/unix"

// Waits says whether the kernel has asked something that nobody has read.
func (e *Enforcer) Waits() bool {
	conn, err := e.gate.group.SyscallConn()
	if err != nil {
		return false
	}
	waits := false
	err = conn.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		waits = n == 1 && err == nil
	})
	return waits && err == nil
}

// Reopen replaces the group of fanotify by one that nobody answers yet.
func (e *Enforcer) Reopen() error {
	g, err := openGate(e.gate.program)
	if err != nil {
		return err
	}
	old := e.gate
	e.gate = g
	return old.Close()
}
