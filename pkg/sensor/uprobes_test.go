package sensor_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Every program on a uprobe has the tail call that keeps it on the task's stack (bpf/uprobe.h); without it
// kernels from 6.13 on may crash.
func TestUprobesKeepTaskStack(t *testing.T) {
	objects, err := filepath.Glob("*/bpf_*.o")
	if err != nil {
		t.Fatal(err)
	}
	uprobes := 0
	for _, object := range objects {
		spec, err := ebpf.LoadCollectionSpec(object)
		if err != nil {
			t.Fatal(err)
		}
		for name, program := range spec.Programs {
			if program.Type != ebpf.Kprobe {
				continue
			}
			uprobes++
			tailCall := func(i asm.Instruction) bool {
				return i.IsBuiltinCall() && asm.BuiltinFunc(i.Constant) == asm.FnTailCall
			}
			if !slices.ContainsFunc(program.Instructions, tailCall) {
				t.Errorf("%s: %s has no tail call", object, name)
			}
		}
	}
	if uprobes == 0 {
		t.Error("no uprobe program was found")
	}
}
