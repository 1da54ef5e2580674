package workload

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Confinement is how far a container is kept from its host.
type Confinement struct {
	Known      bool // both of the others are
	Privileged bool // has all of the host's capabilities and devices, without seccomp
	Mounts     []Mount
}

// Mount is a directory or file of the host, or a volume, in a container.
type Mount struct {
	Source, Dest string
	Mode         string // as the runtime has it: ro, z, ...
	Propagation  string // private, rslave, ...; "" if it is not said
	Writable     bool
}

// maxMounts is how many mounts are kept of a container, the first ones.
const maxMounts = 128

// defaultLastCapability is that of Linux 5.9 and later, CAP_CHECKPOINT_RESTORE.
const defaultLastCapability = 40

// confinement reads what a runtime was told about a container whose id is one.
func (c *Containers) confinement(id, runtime string) Confinement {
	if runtime == "docker" {
		dir := filepath.Join(c.root, "var/lib/docker/containers", id)
		host, err := readBounded(filepath.Join(dir, "hostconfig.json"), maxStateBytes)
		if err != nil {
			return Confinement{}
		}
		state, err := readBounded(filepath.Join(dir, "config.v2.json"), maxStateBytes)
		if err != nil {
			return Confinement{}
		}
		return dockerConfinement(host, state)
	}
	for _, dir := range []string{
		"run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id,
		"run/containerd/io.containerd.runtime.v2.task/default/" + id,
		"run/containers/storage/overlay-containers/" + id + "/userdata",
		"var/lib/containers/storage/overlay-containers/" + id + "/userdata",
	} {
		data, err := readBounded(filepath.Join(c.root, dir, "config.json"), maxStateBytes)
		if err != nil {
			continue
		}
		if confined := bundleConfinement(data, c.lastCapability()); confined.Known {
			return confined
		}
	}
	return Confinement{}
}

// lastCapability is the highest that this kernel has.
func (c *Containers) lastCapability() int {
	data, err := readBounded(filepath.Join(c.root, "proc/sys/kernel/cap_last_cap"), 16)
	if err != nil {
		return defaultLastCapability
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || last < 0 || last > 63 {
		return defaultLastCapability
	}
	return last
}

// dockerConfinement reads Docker's hostconfig.json and config.v2.json.
func dockerConfinement(host, state []byte) Confinement {
	var asked struct{ Privileged *bool }
	var has struct {
		MountPoints map[string]struct {
			Source, Destination, Mode, Propagation string
			RW                                     bool
		}
	}
	if json.Unmarshal(host, &asked) != nil || asked.Privileged == nil || json.Unmarshal(state, &has) != nil {
		return Confinement{}
	}
	c := Confinement{Known: true, Privileged: *asked.Privileged}
	for _, m := range has.MountPoints {
		c.Mounts = append(c.Mounts, Mount{Source: m.Source, Dest: m.Destination, Mode: m.Mode, Propagation: m.Propagation, Writable: m.RW})
	}
	slices.SortFunc(c.Mounts, func(a, b Mount) int { return strings.Compare(a.Dest, b.Dest) })
	c.bound()
	return c
}

// bundle is what we read of an OCI runtime bundle's config.json.
type bundle struct {
	Process *struct {
		Capabilities struct{ Bounding []string }
	}
	Mounts []struct {
		Destination, Type, Source string
		Options                   []string
	}
	Linux *struct {
		Seccomp   json.RawMessage
		Resources struct {
			Devices []device
		}
	}
}

// device is one step of what may be done with devices; later ones overrule those before.
type device struct {
	Allow        bool
	Type         string // "a" or "": all
	Major, Minor *int64
	Access       string
}

// bundleConfinement reads an OCI runtime bundle's config.json. No field of it says "privileged"; what runtimes
// make of that word are all capabilities up to last, no seccomp, and all devices.
func bundleConfinement(data []byte, last int) Confinement {
	var b bundle
	if json.Unmarshal(data, &b) != nil || b.Process == nil || b.Linux == nil {
		return Confinement{}
	}
	bounding := b.Process.Capabilities.Bounding
	slices.Sort(bounding)
	seccomp := len(b.Linux.Seccomp) > 0 && string(b.Linux.Seccomp) != "null"
	c := Confinement{
		Known:      true,
		Privileged: len(slices.Compact(bounding)) > last && !seccomp && allDevices(b.Linux.Resources.Devices),
	}
	for _, m := range b.Mounts {
		if m.Type != "bind" && !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
			continue // the kernel's own file systems, and tmpfs
		}
		mount := Mount{Source: m.Source, Dest: m.Destination, Mode: "rw", Writable: true}
		for _, o := range m.Options {
			switch o {
			case "ro":
				mount.Mode, mount.Writable = "ro", false
			case "private", "rprivate", "shared", "rshared", "slave", "rslave":
				mount.Propagation = o
			}
		}
		c.Mounts = append(c.Mounts, mount)
	}
	c.bound()
	return c
}

func allDevices(steps []device) (all bool) {
	for _, d := range steps {
		every := (d.Type == "" || d.Type == "a") && d.Major == nil && d.Minor == nil
		switch {
		case every && d.Allow:
			all = strings.Contains(d.Access, "r") && strings.Contains(d.Access, "w") && strings.Contains(d.Access, "m")
		case !d.Allow:
			all = false
		}
	}
	return all
}

// bound cuts and copies what may be long.
func (c *Confinement) bound() {
	c.Mounts = slices.Clip(c.Mounts[:min(len(c.Mounts), maxMounts)])
	for i := range c.Mounts {
		m := &c.Mounts[i]
		for _, s := range []*string{&m.Source, &m.Dest, &m.Mode, &m.Propagation} {
			*s = cut(*s)
		}
	}
}
