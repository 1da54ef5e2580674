package sensor

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// haveLoop says whether the kernel has the helper bpf_loop: Linux 5.17.
func haveLoop(kernel *btf.Spec) bool {
	var helpers *btf.Enum
	if kernel.TypeByName("bpf_func_id", &helpers) != nil {
		return false
	}
	for _, v := range helpers.Values {
		if v.Name == "BPF_FUNC_loop" {
			return true
		}
	}
	return false
}

// dropCallbacks takes the functions that are only called back out of an object's programs, and puts null
// in the place of their addresses: Linux before 5.13 knows no such addresses, also where no way leads to
// them, and no kernel wants a function that nobody calls.
func dropCallbacks(spec *ebpf.CollectionSpec) {
	for _, p := range spec.Programs {
		p.Instructions = withoutCallbacks(p.Instructions)
	}
}

func withoutCallbacks(all asm.Instructions) asm.Instructions {
	callbacks := map[string]bool{}
	for i := range all {
		if ins := &all[i]; ins.IsLoadOfFunctionPointer() {
			callbacks[ins.Reference()] = true
			null := asm.LoadImm(ins.Dst, 0, asm.DWord)
			null.Metadata = ins.Metadata
			*ins = null.WithReference("")
		}
	}
	var kept asm.Instructions
	within := ""
	for _, ins := range all {
		if name := ins.Symbol(); name != "" {
			within = name
		}
		if !callbacks[within] {
			kept = append(kept, ins)
		}
	}
	return kept
}
