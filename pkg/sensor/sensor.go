// Package sensor loads and reads the kernel side: it owns the ring buffer, the loss counters and
// the workload map that all objects share, and defines what a sensor is. With pkg/enforce and the
// sensors below it, it is the only importer of cilium/ebpf. It must never decide or interpret: it
// turns records into events.
//
//	shared, err := sensor.NewShared(cfg)
//	p, err := process.Open(shared)
//	err = sensor.NewReader(shared, []sensor.Sensor{p}).Run(ctx, func(ev *event.Event) { ... })
package sensor

import (
	"errors"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// ErrNotSupported means that this kernel or this file cannot do what was asked; the text says why.
// It is a state to report, not a failure to retry.
var ErrNotSupported = errors.New("not supported")

// Sensor is a set of programs, its maps and its decoder, which produce one family of events.
// Decode is called from one goroutine only.
type Sensor interface {
	Name() string
	Kinds() []event.Kind
	// Decode fills ev from one record whose header says one of Kinds. Strings may alias raw.
	Decode(raw []byte, ev *event.Event) error
	// Status lists the sensor's hooks and whether each is attached.
	Status() []Status
	Close() error
}

// Status is one hook of a sensor or enforcer, as check, status and heartbeat print it.
type Status struct {
	Sensor    string `json:"sensor"`
	Hook      string `json:"hook"`
	Supported bool   `json:"supported"`
	Reason    string `json:"reason,omitempty"` // why not, or what it is limited to
}

// Image is one executable file that a process has mapped.
type Image struct {
	PID  uint32
	File string // opens the file from the agent's mount namespace: /proc/PID/exe or /proc/PID/map_files/...
	Name string // the path as the process sees it
	Key  ImageKey
}

// ImageKey tells files apart without the device number, which differs between overlay mounts of one
// file.
type ImageKey struct {
	Inode uint64
	Size  int64
	Mtime int64 // nanoseconds
}

// Follower is a sensor that attaches to code in user space. Follow and Forget are called from one
// goroutine, not the reader's.
type Follower interface {
	Sensor
	// Wants says cheaply, by name, whether an image may be of interest.
	Wants(name string, isExecutable bool) bool
	// Follow attaches to the image. It returns (false, nil) if the file is none of the sensor's,
	// and an error that wraps ErrNotSupported if it is but cannot be observed.
	Follow(img Image) (bool, error)
	// Forget is called when the process has exited.
	Forget(pid uint32)
}
