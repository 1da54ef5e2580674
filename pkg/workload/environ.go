package workload

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Bounds of an environment. Linux lets all arguments and variables together have 6 MiB, and by default 2.
const (
	maxEnviron       = 2 << 20
	maxVariable      = 64 << 10 // of one, with its name: what is behind is not looked at
	maxVariableName  = 256      // a longer one is none
	maxVariableNames = 64 << 10 // of all, together
)

// Environment is what was asked for of the environment that a process was started with.
type Environment struct {
	Names  string            // of all variables, with a space between two
	Values map[string]string // of those that were wanted
	Cut    bool              // there is more than is looked at
}

// Environ reads the names of a process's variables, and the values of those that are wanted: of the others it keeps
// nothing. It is what the program was started with, not what it made of it. It is ErrGone if the process runs no more, or
// is another one. It waits for the process's memory, which the process may have others answer for.
func (p Proc) Environ(pid uint32, start uint64, wanted func(name string) bool) (Environment, error) {
	dir, err := p.open(pid, start)
	if err != nil {
		return Environment{}, err
	}
	defer dir.Close()
	fd, err := unix.Openat(dir.fd, "environ", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Environment{}, procError(pid, err)
	}
	f := os.NewFile(uintptr(fd), "environ")
	defer f.Close()
	env, err := parseEnviron(f, wanted)
	if err != nil {
		return Environment{}, procError(pid, err)
	}
	return env, nil
}

// parseEnviron reads variables, each of which ends with a zero.
func parseEnviron(from io.Reader, wanted func(name string) bool) (Environment, error) {
	env := Environment{Values: map[string]string{}}
	limited := &io.LimitedReader{R: from, N: maxEnviron}
	in := bufio.NewReaderSize(limited, maxVariable)
	names := []byte{}
	for {
		text, err := in.ReadSlice(0)
		long := errors.Is(err, bufio.ErrBufferFull)
		if name, value, ok := bytes.Cut(bytes.TrimSuffix(text, []byte{0}), []byte{'='}); ok && len(name) > 0 && len(name) <= maxVariableName {
			if len(names)+1+len(name) > maxVariableNames {
				env.Cut = true
			} else {
				names = append(append(names, name...), ' ')
			}
			if wanted(string(name)) {
				env.Values[string(name)] = string(value)
			}
		}
		env.Cut = env.Cut || long
		for errors.Is(err, bufio.ErrBufferFull) {
			text, err = in.ReadSlice(0) // the rest of it
			clear(text)
		}
		clear(text) // nothing is to lie about
		switch {
		case errors.Is(err, io.EOF):
			env.Names, env.Cut = string(bytes.TrimSuffix(names, []byte{' '})), env.Cut || limited.N == 0
			return env, nil
		case err != nil:
			return Environment{}, fmt.Errorf("read environment: %w", err)
		}
	}
}
