package agent

import (
	"encoding/binary"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/process"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	processsensor "github.com/plumbline-io/plumbline/pkg/sensor/process"
)

// noKernel takes what the registry writes.
type noKernel struct{}

func (noKernel) SetWorkload(uint64, sensor.WorkloadState) error       { return nil }
func (noKernel) RemoveWorkload(uint64) error                          { return nil }
func (noKernel) RenewWorkloads(map[uint32]sensor.WorkloadState) error { return nil }
func (noKernel) ExpectWorkload(string, sensor.WorkloadState) error    { return nil }

// newLoop is an agent whose event loop works, without a kernel side.
func newLoop(t testing.TB) (*Agent, *sensor.Decoder) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	store, err := openBaselineStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	wall := func(k uint64) time.Time { return time.Unix(1_700_000_000, int64(k)) }
	a := &Agent{
		cfg: Config{Log: log}, host: &host{}, kernel: &kernelSide{shared: &sensor.Shared{}}, table: process.New(process.Config{}),
		registry: newRegistry(registryConfig{Kernel: noKernel{}, Store: store, Mode: event.Learn, Dimensions: event.AllDimensions, Log: log}), stream: newStream(), sink: &sink{log: log},
		detector: detect.New(detect.Config{Ruleset: builtInRules(t), Wall: wall, Window: time.Minute}),
		follower: newFollower(nil, nil, log),
	}
	if err := a.registry.Join(42, detect.Subject{Name: "shop.service", Kind: "unit"}); err != nil {
		t.Fatal(err)
	}
	return a, sensor.NewDecoder([]sensor.Sensor{&processsensor.Sensor{}})
}

// execRecord is a record of bpf/exec.h as the kernel writes it.
func execRecord(path, args string) []byte {
	const fixed = 40 + 8*8 + 4*7 + 2*4 + 4 + 16 + 3*256
	b := make([]byte, fixed, fixed+len(args))
	le := binary.LittleEndian
	le.PutUint64(b[0:], 1)
	le.PutUint64(b[8:], 42)
	le.PutUint32(b[16:], 4711)
	le.PutUint32(b[20:], 4711)
	le.PutUint32(b[24:], 1)                       // workload
	le.PutUint32(b[32:], uint32(event.Exec))      // kind
	le.PutUint16(b[36:], uint16(fixed+len(args))) // size
	b[39] = byte(event.HookTracepoint)
	le.PutUint64(b[40:], 5)  // start
	le.PutUint64(b[64:], 77) // changed
	le.PutUint64(b[72:], 76) // modified
	le.PutUint64(b[96:], 2)  // effective capabilities
	le.PutUint32(b[108:], 1) // parent
	le.PutUint32(b[116:], 3) // in its pid namespace
	le.PutUint32(b[128:], 9) // terminal
	le.PutUint16(b[132:], uint16(len(path)))
	le.PutUint16(b[138:], uint16(len(args)))
	copy(b[144:], "comm")
	copy(b[160:], path)
	return append(b, args...)
}

func TestExecRecordIsDecoded(t *testing.T) {
	_, decoder := newLoop(t)
	var ev event.Event
	if err := decoder.Decode(execRecord("/usr/bin/date", "date\x00-u\x00"), &ev); err != nil {
		t.Fatal(err)
	}
	if ev.Exec.Path != "/usr/bin/date" || ev.Exec.Args != "date -u" || ev.Exec.PPID != 1 || ev.Tgid != 4711 || ev.Workload != 1 || ev.Exec.Comm != "comm" || ev.Exec.Changed != 77 {
		t.Errorf("%+v", ev)
	}
	if x := ev.Exec; x.Modified != 76 || x.Capabilities.Effective != 2 || x.VPID != 3 || x.TTY != 9 || x.Start != 5 {
		t.Errorf("%+v", x)
	}
}

// An event that raises nothing costs no allocation from the record to the last rule.
func TestQuietEventDoesNotAllocate(t *testing.T) {
	a, decoder := newLoop(t)
	record := execRecord("/usr/bin/date", "date\x00-u\x00")
	var ev event.Event
	n := testing.AllocsPerRun(1000, func() {
		if err := decoder.Decode(record, &ev); err != nil {
			t.Fatal(err)
		}
		a.handle(&ev)
	})
	if n != 0 || a.sink.raised.Load() != 0 {
		t.Errorf("%v allocations, %d alerts", n, a.sink.raised.Load())
	}
}

func BenchmarkRingToAlertQuiet(b *testing.B) {
	a, decoder := newLoop(b)
	record := execRecord("/usr/bin/date", "date\x00-u\x00")
	var ev event.Event
	b.ReportAllocs()
	for b.Loop() {
		if err := decoder.Decode(record, &ev); err != nil {
			b.Fatal(err)
		}
		a.handle(&ev)
	}
}

func BenchmarkRingToAlertRaised(b *testing.B) {
	a, decoder := newLoop(b)
	a.detector = detect.New(detect.Config{Ruleset: builtInRules(b), Wall: func(uint64) time.Time { return time.Unix(1, 0) }})
	record := execRecord("/dev/shm/x", "x\x00")
	var ev event.Event
	b.ReportAllocs()
	for b.Loop() {
		if err := decoder.Decode(record, &ev); err != nil {
			b.Fatal(err)
		}
		a.handle(&ev)
	}
}
