package sensor

import (
	"testing"

	"github.com/cilium/ebpf/asm"
)

// A function that is called stays, also where its address is taken by nobody.
func TestWithoutCallbacks(t *testing.T) {
	address := asm.LoadImm(asm.R2, -1, asm.DWord)
	address.Src = asm.PseudoFunc
	call := asm.Call.Label("called")
	got := withoutCallbacks(asm.Instructions{
		address.WithReference("back").WithSymbol("main"),
		call,
		asm.Return(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("back"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 2).WithSymbol("called"),
		asm.Return(),
	})
	if len(got) != 5 {
		t.Fatalf("%d instructions are left, want 5:\n%v", len(got), got)
	}
	if got[0].IsLoadOfFunctionPointer() || got[0].Constant != 0 || got[0].Reference() != "" || got[0].Symbol() != "main" {
		t.Errorf("in place of the address: %v", got[0])
	}
	if got[3].Symbol() != "called" {
		t.Errorf("the last function is %q, want the one that is called", got[3].Symbol())
	}
}
