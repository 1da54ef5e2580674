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

// Environment is what was asked for of the environment of a process.
type Environment struct {
	Names  string              // of all variables, with a space between two
	Values map[string][]string // of those that were wanted: one, or the first and the last where there are more
	Cut    bool                // there is more than is looked at
}

// Environ reads the names of a process's variables, and the values of those that are wanted: of the others it keeps
// nothing. Who started the process wrote it, into memory that is the process's own: what it sets later (setenv) is
// elsewhere and not seen, but it may write over this, and say where else it is (PR_SET_MM). It is ErrGone if the process
// runs no more, or is another one. It waits for the process's memory, which the process may have others answer for.
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

// zeros is an endless reader of them.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// wipe fills the whole buffer of a reader with zeros: nothing is to lie about.
func wipe(in *bufio.Reader) {
	in.Reset(zeros{})
	_, _ = in.Peek(in.Size())
}

// parseEnviron reads variables, each of which ends with a zero.
func parseEnviron(from io.Reader, wanted func(name string) bool) (Environment, error) {
	env := Environment{Values: map[string][]string{}}
	limited := &io.LimitedReader{R: from, N: maxEnviron}
	in := bufio.NewReaderSize(limited, maxVariable)
	defer wipe(in)
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
				env.keep(string(name), string(value))
			}
		}
		env.Cut = env.Cut || long
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice(0) // the rest of it
		}
		switch {
		case errors.Is(err, io.EOF):
			env.Names, env.Cut = string(bytes.TrimSuffix(names, []byte{' '})), env.Cut || limited.N == 0
			return env, nil
		case err != nil:
			return Environment{}, fmt.Errorf("read environment: %w", err)
		}
	}
}

// keep takes down a value. A variable may stand there more than once: getenv of the C libraries finds the first, shells
// take the last, and which of them a program asks is not known.
func (env *Environment) keep(name, value string) {
	values := env.Values[name]
	if len(values) == 2 {
		values, env.Cut = values[:1], true
	}
	env.Values[name] = append(values, value)
}
