package sensor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// knownImages bounds the analyses that are remembered, also those that found nothing.
const knownImages = 1024

// FollowConfig of a Follows; T is what the analysis of a file yields.
type FollowConfig[T any] struct {
	// PerProcess attaches to each process. Otherwise all processes of an image share one attachment,
	// and new ones are covered from their first instruction.
	PerProcess bool
	// Analyse reads img.File. It returns (zero, false, nil) if the file is none of the sensor's. What
	// it returns is remembered, errors only if they wrap ErrNotSupported.
	Analyse func(img Image) (T, bool, error)
	// Attach attaches to img.File, which is the file that was analysed, whatever the process has
	// become meanwhile; pid 0 means all processes.
	Attach func(img Image, pid uint32, facts T) (io.Closer, error)
}

// Follows does the bookkeeping of a sensor that follows the executables of processes: each file is
// analysed once, attached while a process runs it, and detached with the last one. It never keeps an
// attachment longer, because a file that nobody runs can be rewritten in place, and the kernel would
// put its probes into the middle of the new instructions. It is safe for concurrent use.
type Follows[T any] struct {
	cfg FollowConfig[T]

	mu       sync.Mutex
	analyses map[ImageKey]analysis[T]
	attached map[attachKey]*attachment
	running  map[uint32]attachKey // by pid
	closing  sync.WaitGroup
}

type analysis[T any] struct {
	facts T
	mine  bool
	err   error
}

// attachKey is an image, in one process if pid is not 0.
type attachKey struct {
	image ImageKey
	pid   uint32
}

type attachment struct {
	links     io.Closer
	processes int
}

// NewFollows follows nothing yet.
func NewFollows[T any](cfg FollowConfig[T]) *Follows[T] {
	return &Follows[T]{
		cfg:      cfg,
		analyses: map[ImageKey]analysis[T]{},
		attached: map[attachKey]*attachment{},
		running:  map[uint32]attachKey{},
	}
}

// Follow attaches to the executable that img.PID runs now, as Follower.Follow does. A process that
// was followed with another executable has replaced it.
func (f *Follows[T]) Follow(img Image) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := openImage(img)
	if err != nil {
		return false, err
	}
	defer file.Close()
	// The process may execute another file at any time, and probes at the places of one file would
	// destroy another. What is open stays what it is.
	img.File = fmt.Sprintf("/proc/self/fd/%d", file.Fd())
	a := f.analyse(img)
	if a.err != nil || !a.mine {
		f.forget(img.PID)
		return false, a.err
	}
	key := attachKey{image: img.Key}
	if f.cfg.PerProcess {
		key.pid = img.PID
	}
	if current, ok := f.running[img.PID]; ok && current == key {
		return true, nil
	}
	f.forget(img.PID)
	at := f.attached[key]
	if at == nil {
		links, err := f.cfg.Attach(img, key.pid, a.facts)
		if err != nil {
			return false, err
		}
		at = &attachment{links: links}
		f.attached[key] = at
	}
	at.processes++
	f.running[img.PID] = key
	return true, nil
}

// openImage opens the file and makes sure that it is the one that the key tells of.
func openImage(img Image) (*os.File, error) {
	file, err := os.Open(img.File)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open image: %w", err), file.Close())
	}
	if key, ok := KeyOf(info); !ok || key != img.Key {
		return nil, errors.Join(fmt.Errorf("open image: process %d runs another file than %s by now", img.PID, img.Name), file.Close())
	}
	return file, nil
}

// KeyOf is the key of a file; false if it is none that can be executed.
func KeyOf(info os.FileInfo) (ImageKey, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return ImageKey{}, false
	}
	return ImageKey{Inode: stat.Ino, Size: info.Size(), Mtime: info.ModTime().UnixNano()}, true
}

func (f *Follows[T]) analyse(img Image) analysis[T] {
	if a, ok := f.analyses[img.Key]; ok {
		return a
	}
	facts, mine, err := f.cfg.Analyse(img)
	a := analysis[T]{facts, mine, err}
	if err != nil && !errors.Is(err, ErrNotSupported) {
		return a // it may go better next time
	}
	if len(f.analyses) >= knownImages {
		for old := range f.analyses { // any: what is needed again is analysed again
			delete(f.analyses, old)
			break
		}
	}
	f.analyses[img.Key] = a
	return a
}

// Forget drops a process, and the attachment that only it needed; false if it was not followed. Detaching
// waits for the kernel's grace periods and goes on after Forget has returned.
func (f *Follows[T]) Forget(pid uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, followed := f.running[pid]
	f.forget(pid)
	return followed
}

func (f *Follows[T]) forget(pid uint32) {
	key, ok := f.running[pid]
	if !ok {
		return
	}
	delete(f.running, pid)
	at := f.attached[key]
	if at.processes--; at.processes > 0 {
		return
	}
	delete(f.attached, key)
	f.closing.Go(func() { _ = at.links.Close() }) // nothing can be done about a failure, and nobody needs the probes
}

// Following is the number of processes and of attachments.
func (f *Follows[T]) Following() (processes, attachments int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.running), len(f.attached)
}

// Close detaches from everything and waits until that is done.
func (f *Follows[T]) Close() error {
	f.mu.Lock()
	var links closers
	for _, at := range f.attached {
		links = append(links, at.links)
	}
	clear(f.attached)
	clear(f.running)
	f.mu.Unlock()
	f.closing.Wait()
	return links.Close()
}
