package agent

import (
	"log/slog"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// states remembers what the kernel was told of each cgroup.
type states map[uint64]sensor.WorkloadState

func (s states) SetWorkload(id uint64, state sensor.WorkloadState) error { s[id] = state; return nil }
func (states) RemoveWorkload(uint64) error                               { return nil }
func (states) ExpectWorkload(string, sensor.WorkloadState) error         { return nil }

// Rules deny in workloads that are enforced or named, and never in those that a machine depends on, whatever
// names them.
func TestProtected(t *testing.T) {
	container := detect.Subject{Name: "0123456789ab", Kind: "container", ContainerID: "0123456789ab0123"}
	for name, tc := range map[string]struct {
		subject   detect.Subject
		protect   []string
		unguarded []string
		mode      event.Mode
		want      bool
	}{
		"learnt":            {detect.Subject{Name: "web.service", Kind: "unit"}, nil, nil, event.Learn, false},
		"off, named":        {detect.Subject{Name: "web.service", Kind: "unit"}, []string{"db.service", "web.*"}, nil, event.Off, true},
		"enforced":          {detect.Subject{Name: "web.service", Kind: "unit"}, nil, nil, event.Enforce, true},
		"containers":        {container, []string{"containers"}, nil, event.Learn, true},
		"no container":      {detect.Subject{Name: "web.service", Kind: "unit"}, []string{"containers"}, nil, event.Learn, false},
		"guarded":           {detect.Subject{Name: "sshd.service", Kind: "unit"}, []string{"*"}, nil, event.Learn, false},
		"guarded, enforced": {detect.Subject{Name: "kubelet.service", Kind: "unit"}, []string{"*"}, nil, event.Enforce, false},
		"unguarded":         {detect.Subject{Name: "sshd.service", Kind: "unit"}, []string{"sshd.service"}, []string{"sshd.service"}, event.Learn, true},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := openBaselineStore(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			kernel := states{}
			r := newRegistry(registryConfig{
				Kernel: kernel, Enforcer: keptKeys{}, Store: store, Mode: tc.mode, Dimensions: event.AllDimensions,
				Protect: tc.protect, Unguarded: tc.unguarded, Now: time.Now, Log: slog.New(slog.DiscardHandler),
				Audited: func(detect.Subject, error) {},
			})
			if err := r.Join(1, tc.subject); err != nil {
				t.Fatal(err)
			}
			if got := kernel[1].Flags&sensor.Protected != 0; got != tc.want || r.List()[0].Protected != tc.want {
				t.Errorf("protected: %t, and %t in the status", got, r.List()[0].Protected)
			}
		})
	}
}
