package agent

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// What a machine depends on is not enforced, unless it is named: by the names that it has on real machines.
func TestGuards(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for what, path := range map[string]string{
		"the kernel's own cgroup": "/",
		"systemd":                 "/init.scope",
		"journald":                "/system.slice/systemd-journald.service",
		"udevd":                   "/system.slice/systemd-udevd.service/udev",
		"a user's manager":        "/user.slice/user-1000.slice/user@1000.service/init.scope",
		"dbus-daemon":             "/system.slice/dbus.service",
		"dbus-broker":             "/system.slice/dbus-broker.service",
		"a user's dbus":           "/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service",
		"sshd of EL":              "/system.slice/sshd.service",
		"sshd of Debian":          "/system.slice/ssh.service",
		"sshd by socket, EL":      "/system.slice/system-sshd.slice/sshd@3-192.0.2.1:22-192.0.2.7:50022.service",
		"sshd by socket, Debian":  "/system.slice/system-ssh.slice/ssh@3-192.0.2.1:22-192.0.2.7:50022.service",
		"sshd's part in a login":  "/user.slice/user-0.slice/session-c3.scope",
		"the console":             "/system.slice/system-serial\\x2dgetty.slice/serial-getty@ttyS0.service",
		"kubelet":                 "/system.slice/kubelet.service",
		"containerd":              "/system.slice/containerd.service",
		"docker":                  "/system.slice/docker.service",
		"docker of snap":          "/system.slice/snap.docker.dockerd.service",
		"cri-o":                   "/system.slice/crio.service",
		"cri-o's monitor":         "/system.slice/crio-conmon-" + id + ".scope",
		"podman":                  "/system.slice/podman.service",
		"podman's monitor":        "/machine.slice/libpod-conmon-" + id + ".scope",
		"the same of a user":      "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-conmon-" + id + ".scope",
		"k3s":                     "/system.slice/k3s.service",
		"k3s, agent":              "/system.slice/k3s-agent.service",
		"rke2":                    "/system.slice/rke2-server.service",
		"rke2, agent":             "/system.slice/rke2-agent.service",
		"k0s":                     "/system.slice/k0scontroller.service",
		"k0s, worker":             "/system.slice/k0sworker.service",
		"microk8s":                "/system.slice/snap.microk8s.daemon-kubelite.service",
		"where units are made":    "/system.slice",
		"where pods are made":     "/kubepods.slice/kubepods-burstable.slice",
		"the same, cgroupfs":      "/kubepods/burstable/pod12345678-9abc-def0-1234-56789abcdef0",
		"the agent's unit":        "/system.slice/plumbline-agent.service",
		"the agent's pod":         "/kubepods/" + id,
	} {
		t.Run(what, func(t *testing.T) {
			name := workload.NewResolver().Resolve(path).Name
			r, kernel, err := enforced(t, name)
			if !errors.Is(err, ErrGuarded) || r.List()[0].Mode != "learn" || kernel.states[42].Mode != uint32(event.Learn) {
				t.Errorf("%s: %v, %+v", name, err, kernel.states[42])
			}
			if _, kernel, err := enforced(t, name, name); err != nil || kernel.states[42].Mode != uint32(event.Enforce) {
				t.Errorf("%s, unguarded: %v, %+v", name, err, kernel.states[42])
			}
		})
	}
	for _, path := range []string{
		"/system.slice/shop.service", "/docker/" + strings.Repeat("f", 64), "/machine.slice/libpod-" + strings.Repeat("f", 64) + ".scope/container",
		"/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service", "/batch/sshd.service",
	} {
		if _, _, err := enforced(t, workload.NewResolver().Resolve(path).Name); err != nil {
			t.Error(err)
		}
	}
}

// A process finds the cgroup that it is in.
func TestOwnWorkload(t *testing.T) {
	h, err := openHost(Config{Node: "node", TrustDomain: "example.org"})
	if err != nil {
		t.Fatal(err)
	}
	cgroups, err := h.Cgroups()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, path, _ := strings.Cut(strings.TrimSpace(string(self)), "::")
	if own := h.Own(cgroups); h.hierarchy.Controller == "" && own != h.Subject(path) {
		t.Errorf("own workload is %+v, cgroup %q", own, path)
	}
	if own := h.Own(nil); own.Name != "" {
		t.Errorf("outside of the scope: %+v", own)
	}
}

// A new container is one from its first process on, and protected if all are; not protected where the agent is a container,
// whose successor is a new one too.
func TestNewContainers(t *testing.T) {
	unit, pod := detect.Subject{Name: "plumbline-agent.service", Kind: "unit"}, detect.Subject{Name: "0123456789ab", Kind: "container"}
	for name, tc := range map[string]struct {
		own     detect.Subject
		protect []string
		want    uint32
	}{
		"a unit":                       {unit, nil, sensor.Container},
		"nobody in scope":              {detect.Subject{}, []string{"web.*"}, sensor.Container},
		"all containers are protected": {unit, []string{"web.*", "containers"}, sensor.Container | sensor.Protected},
		"a container":                  {pod, []string{"containers"}, sensor.Container},
	} {
		if got := newContainerFlags(tc.own, tc.protect); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// states remembers what the kernel was told of each cgroup.
type states map[uint64]sensor.WorkloadState

func (s states) SetWorkload(id uint64, state sensor.WorkloadState) error { s[id] = state; return nil }
func (states) RemoveWorkload(uint64) error                               { return nil }
func (states) RenewWorkloads(map[uint32]sensor.WorkloadState) error      { return nil }
func (states) ExpectWorkload(string, sensor.WorkloadState) error         { return nil }

// The agent's own container is let at it, as no other is.
func TestOwnContainer(t *testing.T) {
	for own, want := range map[string]uint32{
		"0123456789ab": sensor.Container | sensor.Own, "ba9876543210": sensor.Container, "": sensor.Container,
	} {
		store, err := openBaselineStore(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		kernel := states{}
		r := newRegistry(registryConfig{
			Kernel: kernel, Enforcer: keptKeys{}, Store: store, Mode: event.Off, Own: own, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		})
		if err := r.Join(1, detect.Subject{Name: "0123456789ab", Kind: "container"}); err != nil {
			t.Fatal(err)
		}
		if got := kernel[1].Flags; got != want {
			t.Errorf("the agent is of %q: flags %d, want %d", own, got, want)
		}
	}
}

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
