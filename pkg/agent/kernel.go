package agent

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/gcpause"
	"github.com/plumbline-io/plumbline/pkg/sensor/gotls"
	"github.com/plumbline-io/plumbline/pkg/sensor/openssl"

	"github.com/plumbline-io/plumbline/pkg/sensor/process"
)

// kernelSide is everything that was loaded into the kernel.
type kernelSide struct {
	shared    *sensor.Shared
	process   *process.Sensor
	enforcer  *enforce.Enforcer // nil: this kernel has no means
	followers []sensor.Follower
	missing   []sensor.Status // what could not be loaded, and why
}

// openKernel loads and attaches. Only the process sensor is indispensable: whatever else this kernel
// cannot do is noted and left out.
func openKernel(cfg sensor.Config, means enforce.Config, log *slog.Logger) (*kernelSide, error) {
	shared, err := sensor.NewShared(cfg)
	if err != nil {
		return nil, err
	}
	k := &kernelSide{shared: shared}
	// Enforcement first: where it uses the same tracepoint as the process sensor, a denial has to come
	// before the exec that it ended.
	k.enforcer, err = enforce.Open(shared, means)
	switch {
	case errors.Is(err, sensor.ErrNotSupported) && means.Strength == enforce.Auto:
		k.miss("enforce", err)
		log.Warn("open enforcement", "error", err)
	case err != nil:
		return nil, errors.Join(err, k.Close())
	}
	if k.process, err = process.Open(shared); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	for _, open := range []struct {
		name string
		open func() (sensor.Follower, error)
	}{
		{"gotls", func() (sensor.Follower, error) { return gotls.Open(shared) }},
		{"openssl", func() (sensor.Follower, error) { return openssl.Open(shared) }},
		{"gcpause", func() (sensor.Follower, error) { return gcpause.Open(shared) }},
	} {
		f, err := open.open()
		if err != nil {
			k.miss(open.name, err)
			log.Warn("open sensor", "sensor", open.name, "error", err)
			continue
		}
		k.followers = append(k.followers, f)
	}
	return k, nil
}

func (k *kernelSide) miss(name string, err error) {
	k.missing = append(k.missing, sensor.Status{Sensor: name, Hook: "programs", Reason: err.Error()})
}

// sensors lists who decodes records.
func (k *kernelSide) sensors() []sensor.Sensor {
	all := []sensor.Sensor{k.process}
	if k.enforcer != nil {
		all = append(all, k.enforcer)
	}
	for _, f := range k.followers {
		all = append(all, f)
	}
	return all
}

// Status lists every hook, the ones that are missing too.
func (k *kernelSide) Status() []sensor.Status {
	all := append([]sensor.Status{}, k.process.Status()...)
	if k.enforcer != nil {
		all = append(all, k.enforcer.Status()...)
	}
	for _, f := range k.followers {
		all = append(all, f.Status()...)
	}
	return append(all, k.missing...)
}

// Pin keeps enforcement in the kernel while no agent runs, and new cgroups in their parents' workloads.
func (k *kernelSide) Pin(pins *sensor.Pins) error {
	errs := []error{pins.PinMaps(k.shared), k.process.Pin(pins)}
	if k.enforcer != nil {
		errs = append(errs, k.enforcer.Pin(pins))
	}
	return errors.Join(errs...)
}

// Close lets go of everything. What is not pinned is taken out of the kernel.
func (k *kernelSide) Close() error {
	var errs []error
	note := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", what, err))
		}
	}
	for _, f := range k.followers {
		note(f.Name(), f.Close())
	}
	if k.enforcer != nil {
		note("enforcement", k.enforcer.Close())
	}
	if k.process != nil {
		note("process sensor", k.process.Close())
	}
	note("shared maps", k.shared.Close())
	return errors.Join(errs...)
}
