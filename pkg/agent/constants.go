package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mapping is one of the agent's own memory, as /proc/self/smaps tells it.
type mapping struct {
	from, to uint64
}

// forgetConstants gives back the memory in which the program's constants are: the texts of BPF programs, and tables
// that were needed to start. They are in the file, and what is needed again comes back from it by itself, page by page.
// It leaves the code alone: breakpoints that others may have put there would be lost.
func forgetConstants() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the agent's program: %w", err)
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read the agent's mappings: %w", err)
	}
	defer f.Close()
	constants, err := constantsOf(f, program)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range constants {
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, uintptr(m.from), uintptr(m.to-m.from), unix.MADV_DONTNEED); e != 0 {
			errs = append(errs, fmt.Errorf("give back constants: %w", e))
		}
	}
	return errors.Join(errs...)
}

// constantsOf finds the mappings of a file that can only be read, and none of whose pages differs from the file: what
// a loader has relocated does, and would be lost. See proc_pid_smaps(5).
func constantsOf(smaps io.Reader, file string) (found []mapping, err error) {
	var m mapping
	constant := false
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		line := lines.Text()
		if value, ok := strings.CutPrefix(line, "Anonymous:"); ok {
			if constant && strings.Fields(value)[0] == "0" {
				found = append(found, m)
			}
			constant = false
			continue
		}
		var permissions string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &m.from, &m.to, &permissions); n == 3 {
			constant = permissions == "r--p" && strings.HasSuffix(line, " "+file)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the agent's mappings: %w", err)
	}
	return found, nil
}
