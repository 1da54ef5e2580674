package enforce

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Missed counts how often the kernel did not call a program because it was at work already on that processor, so that nobody was
// asked. Linux 5.12 and later count it; of LSM programs there is nothing to count from 6.2 on, as they are always called.
func (e *Enforcer) Missed() (uint64, error) {
	var sum uint64
	var errs []error
	for _, l := range e.links {
		n, err := missedBy(l)
		if err != nil {
			errs = append(errs, fmt.Errorf("read about program %s: %w", l.program, err))
		}
		sum += n
	}
	return sum, errors.Join(errs...)
}

func missedBy(l attached) (uint64, error) {
	info, err := l.link.Info()
	if err != nil {
		return 0, err
	}
	program, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return 0, err
	}
	defer program.Close()
	stats, err := program.Stats()
	if err != nil {
		return 0, err
	}
	return stats.RecursionMisses, nil
}
