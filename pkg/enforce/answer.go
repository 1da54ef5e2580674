package enforce

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Answerers is how many goroutines have to call Answer.
	Answerers = 4
	// answerWithin is how long an execution waits for us, once it is its turn.
	answerWithin = 100 * time.Millisecond
	// tooLate is after how many times as long we are to be asked no more: an answerer that hangs in the kernel would keep
	// the group open even if we were killed.
	tooLate = 50
	// imageHead is how much of a file is read to see what it is: linkers put the program headers behind the ELF header.
	imageHead = 4096
)

// What gateProgram returns; bpf2go does not carry macros.
const (
	answerRefused = 1
	answerNamed   = 2
)

// Answer answers the kernel's questions until ctx ends; with another strength it returns at once. As long as file
// systems are marked it has to be called by Answerers goroutines. It returns an error if it gives up: then the kernel
// asks no more, and the hook of Signal alone is left.
func (e *Enforcer) Answer(ctx context.Context) error {
	g := e.gate
	if g == nil {
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = g.group.Close() })()
	// Exactly one event is read at a time, so that none waits behind another while an answerer is free.
	event := make([]byte, unix.FAN_EVENT_METADATA_LEN)
	for {
		n, err := g.group.Read(event)
		if err == nil {
			err = g.take(event[:n])
		} else {
			err = g.judgeFailure(err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			g.giveUp(err)
		}
		if err := g.Ended(); err != nil {
			return err
		}
	}
}

// judgeFailure returns an error if there is no use in reading on. The kernel has denied what it could not hand us.
func (g *gate) judgeFailure(err error) error {
	var errno unix.Errno
	switch {
	case errors.Is(err, os.ErrClosed), errors.Is(err, io.EOF), !errors.As(err, &errno):
		return fmt.Errorf("read fanotify event: %w", err)
	}
	switch errno {
	case unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EBADF, unix.EINVAL, unix.EFAULT:
		g.unread.Add(1)
		return fmt.Errorf("read fanotify event: %w", err)
	}
	g.unread.Add(1)
	return nil
}

// opening is one event: a task wants to open a file to execute it.
type opening struct {
	mask uint64
	file int // our descriptor of it; FAN_NOFD if there is none
	tid  int // 0: not to be seen from our pid namespace
}

// parseOpening reads the first event of what a group delivered.
func parseOpening(raw []byte) (opening, error) {
	const fixed = unix.FAN_EVENT_METADATA_LEN
	if len(raw) < fixed {
		return opening{}, fmt.Errorf("parse fanotify event: %d bytes, want at least %d", len(raw), fixed)
	}
	size, version := binary.NativeEndian.Uint32(raw), raw[4]
	if version != unix.FANOTIFY_METADATA_VERSION {
		return opening{}, fmt.Errorf("parse fanotify event: version %d, want %d", version, unix.FANOTIFY_METADATA_VERSION)
	}
	if size < fixed || uint64(size) > uint64(len(raw)) {
		return opening{}, fmt.Errorf("parse fanotify event: it says it has %d bytes, and there are %d", size, len(raw))
	}
	return opening{
		mask: binary.NativeEndian.Uint64(raw[8:]),
		file: int(int32(binary.NativeEndian.Uint32(raw[16:]))),
		tid:  int(int32(binary.NativeEndian.Uint32(raw[20:]))),
	}, nil
}

// take answers an event.
func (g *gate) take(raw []byte) error {
	o, err := parseOpening(raw)
	if err != nil {
		return err
	}
	if o.mask&unix.FAN_Q_OVERFLOW != 0 {
		g.overflown.Add(1)
	}
	if o.file < 0 {
		return nil
	}
	defer unix.Close(o.file)
	if o.mask&unix.FAN_OPEN_EXEC_PERM == 0 {
		return nil
	}
	g.asked.Add(1)
	q := &question{gate: g, file: o.file}
	late := time.AfterFunc(g.within, q.lapse)
	hung := time.AfterFunc(tooLate*g.within, func() { g.giveUp(fmt.Errorf("an answer took longer than %s", tooLate*g.within)) })
	q.decide(o.tid)
	hung.Stop()
	if !late.Stop() {
		g.held.Add(-1)
	}
	return nil
}

// question is an execution that waits. It is answered once, by who decides or by who notices that it takes too long.
type question struct {
	gate *gate
	file int

	mu       sync.Mutex // held while it is being answered: the descriptor stands for it until then
	answered bool
}

// lapse allows what was not answered in time. If all answerers are late, the kernel is to ask no more.
func (q *question) lapse() {
	if q.answer(allow) {
		q.gate.late.Add(1)
	}
	if q.gate.held.Add(1) >= Answerers {
		q.gate.giveUp(fmt.Errorf("all %d answerers took longer than %s", Answerers, q.gate.within))
	}
}

// decide finds the answer: denied if the baseline does not hold the execution.
func (q *question) decide(tid int) {
	process, err := unix.Open("/proc/"+strconv.Itoa(tid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		q.gate.unseen.Add(1)
		q.answer(allow)
		return
	}
	defer unix.Close(process)
	found, err := q.gate.ask(q.file, process, false)
	if err != nil {
		q.gate.unseen.Add(1)
	}
	if found&answerRefused == 0 || !isImage(head(q.file), found&answerNamed != 0) {
		q.answer(allow)
		return
	}
	q.answer(func() uint32 {
		// Asked again, now that nobody else will answer: what is told is what happens.
		if again, err := q.gate.ask(q.file, process, true); err != nil || again&answerRefused == 0 {
			return unix.FAN_ALLOW
		}
		q.gate.refused.Add(1)
		return unix.FAN_DENY
	})
}

func allow() uint32 { return unix.FAN_ALLOW }

// answer gives the kernel an answer, unless it has one.
func (q *question) answer(find func() uint32) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.answered {
		return false
	}
	q.answered = true
	response := make([]byte, 0, 8) // struct fanotify_response
	response = binary.NativeEndian.AppendUint32(response, uint32(q.file))
	response = binary.NativeEndian.AppendUint32(response, find())
	_, _ = q.gate.group.Write(response) // it fails if the task was killed, or the group closed
	return true
}

// head is how a file begins; what cannot be read is empty.
func head(file int) []byte {
	buf := make([]byte, imageHead)
	n, err := unix.Pread(file, buf, 0)
	if err != nil {
		return nil
	}
	return buf[:n]
}
