package main

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/test/bench/load"
)

// programInfo is struct bpf_prog_info of the kernel's include/uapi/linux/bpf.h.
type programInfo struct {
	_        [64]byte
	Name     [16]byte
	_        [112]byte
	RunTime  uint64 // nanoseconds, which are instructions here
	Runs     uint64
	_        uint64
	Verified uint32 // instructions that the verifier looked at; Linux 5.16
	_        [2]uint32
}

// programs reads what every BPF program of the kernel has done so far, by id.
func programs() (map[uint32]programInfo, error) {
	all := map[uint32]programInfo{}
	for id := uint32(0); ; {
		next := struct{ start, next, flags uint32 }{start: id}
		if _, err := bpf(unix.BPF_PROG_GET_NEXT_ID, unsafe.Pointer(&next), unsafe.Sizeof(next)); errors.Is(err, unix.ENOENT) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("list BPF programs: %w", err)
		}
		id = next.next
		open := struct{ id, next, flags uint32 }{id: id}
		fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&open), unsafe.Sizeof(open))
		if errors.Is(err, unix.ENOENT) {
			continue // unloaded meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("open BPF program: %w", err)
		}
		var info programInfo
		ask := struct {
			fd, size uint32
			info     unsafe.Pointer
		}{uint32(fd), uint32(unsafe.Sizeof(info)), unsafe.Pointer(&info)}
		_, err = bpf(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&ask), unsafe.Sizeof(ask))
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			return nil, fmt.Errorf("read BPF program: %w", err)
		}
		all[id] = info
	}
}

func bpf(command int, attr unsafe.Pointer, bytes uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), bytes)
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

// profile prints which BPF programs each load calls, and what they cost. The kernel's own counting of it
// costs too, so that it is a measurement of its own.
func (s *stage) profile(kinds []load.Kind) error {
	at, err := programs()
	if err != nil {
		return err
	}
	for _, p := range at {
		fmt.Printf("program %s: %d instructions verified\n", bytes.TrimRight(p.Name[:], "\x00"), p.Verified)
	}
	const runTime = 0
	enable := struct{ kind uint32 }{runTime}
	counting, err := bpf(unix.BPF_ENABLE_STATS, unsafe.Pointer(&enable), unsafe.Sizeof(enable))
	if err != nil {
		return fmt.Errorf("count runs of BPF programs: %w", err)
	}
	defer unix.Close(counting)
	for _, k := range kinds {
		if at, err = programs(); err != nil {
			return err
		}
		if _, err := s.run(k, k.Rounds); err != nil {
			return err
		}
		now, err := programs()
		if err != nil {
			return err
		}
		for id, p := range now {
			runs, ns := float64(p.Runs-at[id].Runs), float64(p.RunTime-at[id].RunTime)
			if each := runs / float64(k.Rounds); each > 0.01 {
				fmt.Printf("load %s: %.2f calls of %s, %.0f instructions each\n", k.Name, each, bytes.TrimRight(p.Name[:], "\x00"), ns/runs)
			}
		}
	}
	return nil
}
