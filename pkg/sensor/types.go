package sensor

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// Types are the kernel's types. Reading them takes longer than loading a small object does, and some MiB: who loads
// more than once keeps them, for one Shared at a time.
type Types struct {
	kernel *btf.Spec
	cache  *btf.Cache // the same, as the library wants it; nil: read anew
}

// ReadTypes reads a file with the kernel's types, for kernels that do not bring them; "": the kernel's own
// (CONFIG_DEBUG_INFO_BTF). The error is ErrNotSupported if it has none.
func ReadTypes(file string) (*Types, error) {
	t := &Types{cache: btf.NewCache()}
	var err error
	if file != "" {
		if t.kernel, err = btf.LoadSpec(file); err != nil {
			return nil, fmt.Errorf("read BTF file %s: %w", file, err)
		}
		return t, nil
	}
	t.kernel, err = t.cache.Kernel()
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, btf.ErrNotFound) || errors.Is(err, ebpf.ErrNotSupported) {
		return nil, fmt.Errorf("read kernel BTF: %w: the kernel has no /sys/kernel/btf/vmlinux; pass a file with --btf", ErrNotSupported)
	}
	if err != nil {
		return nil, fmt.Errorf("read kernel BTF: %w", err)
	}
	return t, nil
}

// ControllerIndex is the place of a version 1 cgroup controller in css_set.subsys: enum
// cgroup_subsys_id of this kernel's build. /proc/cgroups does not list every controller any more.
func (t *Types) ControllerIndex(controller string) (uint32, error) {
	var ids *btf.Enum
	if err := t.kernel.TypeByName("cgroup_subsys_id", &ids); err != nil {
		return 0, fmt.Errorf("find cgroup controller %s: %w", controller, err)
	}
	for _, v := range ids.Values {
		if v.Name == controller+"_cgrp_id" {
			return uint32(v.Value), nil
		}
	}
	return 0, fmt.Errorf("find cgroup controller %s: %w by this kernel", controller, ErrNotSupported)
}
