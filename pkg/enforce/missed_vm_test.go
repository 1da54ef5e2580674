package enforce

import (
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// A program that the kernel does not call, because it interrupts itself, is counted.
func TestMissed(t *testing.T) {
	if os.Getenv("PLUMBLINE_KERNEL") == "5.10" {
		t.Skip("this kernel does not count what it misses (since 5.12)")
	}
	sensortest.OnlyOn(t, "6.1", "6.12")
	scope := sensortest.NewScope(t)
	e, err := Open(scope.Shared, Config{Dimensions: event.Dimensions(0).With(event.DimExec)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	want := func(n uint64) {
		t.Helper()
		if got, err := e.Missed(); err != nil || got != n {
			t.Errorf("%d missed, %v, want %d", got, err, n)
		}
	}
	want(0)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	e.links = append(e.links, attached{program: "again", link: callsItself(t, m)})
	for n := range uint64(7) {
		_ = m.Delete(uint32(0)) // there is no such key
		want(n + 1)
	}
}

// callsItself attaches a program to what a map does to delete a key, which deletes one of that map.
func callsItself(t *testing.T, m *ebpf.Map) link.Link {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "again", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachTo: "htab_map_delete_elem", License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, m.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapDeleteElem.Call(),
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		},
	})
	if err != nil {
		t.Skip("this kernel cannot trace its own functions:", err)
	}
	t.Cleanup(func() { program.Close() })
	l, err := link.AttachTracing(link.TracingOptions{Program: program})
	if err != nil {
		t.Skip("this kernel cannot trace its own functions:", err)
	}
	return l
}
