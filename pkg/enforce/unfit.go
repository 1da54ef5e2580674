package enforce

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// UnfitError is returned if entries of a baseline do not get into the kernel. The others are there.
type UnfitError struct {
	// Dimensions of what was left out: they cannot be enforced, since nothing may be denied that the baseline holds.
	Dimensions event.Dimensions
	// Entries by why they were left out: their map is full, the path is too long for a key, the kernel refused.
	Full, TooLong, Refused int
	err                    error // the first one
}

func (u *UnfitError) Error() string {
	return fmt.Sprintf("leave out %d baseline entries: %v", u.Full+u.TooLong+u.Refused, u.err)
}

func (u *UnfitError) Unwrap() error { return u.err }

// note counts an entry that is left out.
func (u *UnfitError) note(op event.Operation, why error) {
	u.Dimensions = u.Dimensions.With(op.Dimension())
	switch {
	case errors.Is(why, unix.E2BIG), errors.Is(why, unix.ENOSPC):
		u.Full++
	case errors.Is(why, errTooLong):
		u.TooLong++
	default:
		u.Refused++
	}
	if u.err == nil {
		u.err = why
	}
}

// noteAll counts those that an update of a map did not get to.
func noteAll[K any](u *UnfitError, keys []K, written int, op func(K) bpfOperation, why error) {
	if why == nil {
		return
	}
	for _, k := range keys[min(written, len(keys)):] {
		u.note(event.Operation(op(k)), why)
	}
}
