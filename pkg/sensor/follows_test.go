package sensor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

type counted struct{ open *atomic.Int32 }

func (c counted) Close() error { c.open.Add(-1); return nil }

// follower counts what a Follows does with files that say what is to happen.
type follower struct {
	*Follows[string]
	dir                string
	analysed, attached int
	open               atomic.Int32
}

var errRead = errors.New("read error")

func newFollower(t *testing.T, perProcess bool) *follower {
	f := &follower{dir: t.TempDir()}
	f.Follows = NewFollows(FollowConfig[string]{
		PerProcess: perProcess,
		Analyse: func(img Image) (string, bool, error) {
			f.analysed++
			text, err := os.ReadFile(img.File)
			switch string(text) {
			case "none":
				return "", false, nil
			case "old":
				return "", false, fmt.Errorf("%w: too old", ErrNotSupported)
			case "unreadable":
				return "", false, errRead
			}
			return string(text), true, err
		},
		Attach: func(img Image, pid uint32, facts string) (io.Closer, error) {
			f.attached++
			text, err := os.ReadFile(img.File)
			if err != nil || facts == "unattachable" || facts != string(text) || perProcess != (pid != 0) {
				return nil, errRead
			}
			f.open.Add(1)
			return counted{&f.open}, nil
		},
	})
	return f
}

// img is an image whose file has the text.
func (f *follower) img(t *testing.T, pid uint32, text string) Image {
	t.Helper()
	path := filepath.Join(f.dir, text)
	info, err := os.Stat(path)
	if err != nil {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		if info, err = os.Stat(path); err != nil {
			t.Fatal(err)
		}
	}
	key, ok := KeyOf(info)
	if !ok {
		t.Fatalf("no key of %s", path)
	}
	return Image{PID: pid, File: path, Name: text, Key: key}
}

func (f *follower) expect(t *testing.T, analysed, attached int, open int32) {
	t.Helper()
	f.closing.Wait()
	if f.analysed != analysed || f.attached != attached || f.open.Load() != open {
		t.Errorf("analysed %d attached %d open %d, want %d %d %d", f.analysed, f.attached, f.open.Load(), analysed, attached, open)
	}
}

func (f *follower) mine(t *testing.T, pid uint32, text string) {
	t.Helper()
	if mine, err := f.Follow(f.img(t, pid, text)); !mine || err != nil {
		t.Errorf("follow %s: %t, %v", text, mine, err)
	}
}

func TestFollowsShared(t *testing.T) {
	f := newFollower(t, false)
	f.mine(t, 10, "a")
	f.mine(t, 11, "a")
	f.mine(t, 10, "a") // again: no second count
	f.expect(t, 1, 1, 1)
	f.Forget(10)
	f.Forget(10)
	f.Forget(99)
	f.expect(t, 1, 1, 1)
	f.Forget(11)
	f.expect(t, 1, 1, 0)
	f.mine(t, 12, "a") // the analysis is remembered
	f.mine(t, 12, "b") // exec: the former image has no process any more
	f.expect(t, 2, 3, 1)
	if _, err := f.Follow(f.img(t, 12, "none")); err != nil { // exec of something else
		t.Error(err)
	}
	f.expect(t, 3, 3, 0)
	f.mine(t, 13, "a")
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	f.expect(t, 3, 4, 0)
}

func TestFollowsPerProcess(t *testing.T) {
	f := newFollower(t, true)
	f.mine(t, 10, "a")
	f.mine(t, 11, "a")
	f.expect(t, 1, 2, 2)
	if p, a := f.Following(); p != 2 || a != 2 {
		t.Errorf("%d processes, %d attachments", p, a)
	}
	f.Forget(10)
	f.expect(t, 1, 2, 1)
}

func TestFollowsRefusals(t *testing.T) {
	f := newFollower(t, false)
	for text, want := range map[string]error{"none": nil, "old": ErrNotSupported, "unreadable": errRead, "unattachable": errRead} {
		for range 2 {
			if mine, err := f.Follow(f.img(t, 10, text)); mine || !errors.Is(err, want) {
				t.Errorf("%s: %t, %v, want %v", text, mine, err, want)
			}
		}
	}
	// What could not be read is read again, the others are remembered; attaching is tried again.
	f.expect(t, 5, 2, 0)
}

// A process that executes another file between the agent's look at it and Follow must not let the
// places of one file be probed in the other.
func TestFollowsRefusesAnotherFile(t *testing.T) {
	f := newFollower(t, false)
	i := f.img(t, 10, "a")
	i.File = f.img(t, 10, "b").File
	if mine, err := f.Follow(i); mine || err == nil {
		t.Errorf("follow: %t, %v", mine, err)
	}
	i.File = f.dir
	if mine, err := f.Follow(i); mine || err == nil {
		t.Errorf("follow a directory: %t, %v", mine, err)
	}
	f.expect(t, 0, 0, 0)
}

func TestFollowsRemembersBounded(t *testing.T) {
	f := newFollower(t, false)
	for n := range knownImages + 10 {
		f.mine(t, 10, fmt.Sprint(n))
	}
	if len(f.analyses) != knownImages {
		t.Errorf("%d analyses are remembered", len(f.analyses))
	}
	f.expect(t, knownImages+10, knownImages+10, 1)
}
