package event

import (
	"net/netip"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/syscalls"
)

// Every operation and dimension has a name that is read back, and exactly one kind of object.
func TestAppendCapabilities(t *testing.T) {
	for set, want := range map[uint64]string{
		0: "a ", 1: "a CAP_CHOWN", 1<<21 | 1<<40: "a CAP_SYS_ADMIN CAP_CHECKPOINT_RESTORE", 1<<63 | 2: "a CAP_DAC_OVERRIDE 63",
	} {
		if got := string(AppendCapabilities([]byte("a "), set)); got != want {
			t.Errorf("%x: %q, want %q", set, got, want)
		}
	}
}

func TestOperations(t *testing.T) {
	for o := OpExec; o < OpCount; o++ {
		if got, err := ParseOperation(o.String()); err != nil || got != o {
			t.Errorf("%d: %s: %v, %v", o, o, got, err)
		}
		n := 0
		for _, about := range []bool{o.OnPath(), o.OnAddress(), o.OnNumber()} {
			if about {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s is about %d kinds of objects", o, n)
		}
	}
	for d := range DimCount {
		if got, err := ParseDimension(d.String()); err != nil || got != d {
			t.Errorf("%d: %s: %v, %v", d, d, got, err)
		}
		if AllDimensions.Has(d) != (d != DimSyscalls) || Dimensions(0).Has(d) || !Dimensions(0).With(d).Has(d) {
			t.Errorf("%s: wrong set", d)
		}
	}
	if AllDimensions.Has(DimCount) {
		t.Error("too many dimensions")
	}
	for _, wrong := range []string{"", "unspecified", "Exec", "unknown(40)"} {
		if _, err := ParseOperation(wrong); err == nil {
			t.Errorf("operation %q is read", wrong)
		}
	}
	for op, want := range map[Operation]Dimension{
		OpExec: DimExec, OpLibrary: DimLibrary, OpRead: DimFile, OpMount: DimFile, OpUnixConnect: DimUnix, OpUnixBind: DimUnix,
		OpConnect: DimNetwork, OpSend: DimNetwork, OpSocket: DimPrivilege, OpSignal: DimPrivilege, OpKeyctl: DimPrivilege, OpSyscall: DimSyscalls, OpAccept: DimNetwork, OpDup: DimNetwork, OpDNSQuery: DimNetwork, OpTCPBegin: DimNetwork,
		OpNamespace: DimPrivilege, OpExecAsRoot: DimPrivilege, OpExecWithCapabilities: DimPrivilege,
	} {
		if op.Dimension() != want {
			t.Errorf("%s is in %s, want %s", op, op.Dimension(), want)
		}
	}
}

func TestKeyText(t *testing.T) {
	for want, k := range map[string]Key{
		"/usr/bin/x":                      {Op: OpExec, Path: "/usr/bin/x"},
		"read /etc/passwd":                {Op: OpRead, Path: "/etc/passwd"},
		"connect tcp 10.0.0.0/8 port 443": {Op: OpConnect, Protocol: ProtocolTCP, Address: netip.MustParsePrefix("10.0.0.0/8"), Port: 443},
		"connect tcp 10.0.0.1 port 443":   {Op: OpConnect, Protocol: ProtocolTCP, Address: netip.MustParsePrefix("10.0.0.1/32"), Port: 443},
		"bind udp any port any":           {Op: OpBind, Protocol: ProtocolUDP},
		"send 132 ::1 port 5":             {Op: OpSend, Protocol: 132, Address: netip.MustParsePrefix("::1/128"), Port: 5},
		"dup tcp 10.0.0.1 port 443":       {Op: OpDup, Protocol: ProtocolTCP, Address: netip.MustParsePrefix("10.0.0.1/32"), Port: 443},
		"dup unix":                        {Op: OpDup},
		"dns_query udp ::1 port 53":       {Op: OpDNSQuery, Protocol: ProtocolUDP, Address: netip.MustParsePrefix("::1/128"), Port: 53},
		"tcp_begin tcp ::1 port 443":      {Op: OpTCPBegin, Protocol: ProtocolTCP, Address: netip.MustParsePrefix("::1/128"), Port: 443},
		"capability CAP_SYS_ADMIN":        {Op: OpCapability, Value: 21},
		"capability 200":                  {Op: OpCapability, Value: 200},
		"syscall openat":                  {Op: OpSyscall, Value: uint32(syscalls.ByNumber("amd64", false, 257))},
		"ptrace attach other workload":    {Op: OpPtrace, Value: PtraceAttach | PtraceOther},
		"setuid 33":                       {Op: OpSetuid, Value: 33},
		"namespace new net":               {Op: OpNamespace, Value: 30},
		"namespace enter mount":           {Op: OpNamespace, Value: 17 | NamespaceEntered},
		"namespace enter any":             {Op: OpNamespace, Value: NamespaceEntered},
		"namespace 1":                     {Op: OpNamespace, Value: 1},
		"exec_as_root /usr/bin/sudo":      {Op: OpExecAsRoot, Path: "/usr/bin/sudo"},
	} {
		if got := k.String(); got != want {
			t.Errorf("%+v is %q, want %q", k, got, want)
		}
	}
}

func TestValues(t *testing.T) {
	for _, op := range []Operation{OpCapability, OpPtrace, OpSetuid, OpNamespace} {
		for v := range uint32(600) {
			text := ValueName(op, v)
			got, err := ParseValue(op, text)
			if op == OpPtrace && v != PtraceRead && v != PtraceAttach && v != PtraceRead|PtraceOther && v != PtraceAttach|PtraceOther {
				continue // not a value that the kernel side writes
			}
			if err != nil || got != v {
				t.Errorf("%s %d is %q, read as %d, %v", op, v, text, got, err)
			}
		}
	}
	for _, wrong := range []string{"", "-1", "4294967296", "CAP_NONE"} {
		if _, err := ParseValue(OpCapability, wrong); err == nil {
			t.Errorf("%q is read", wrong)
		}
	}
	for _, p := range []Protocol{ProtocolTCP, ProtocolUDP, 132} {
		if got, err := ParseProtocol(p.String()); err != nil || got != p {
			t.Errorf("%s: %v, %v", p, got, err)
		}
	}
	if _, err := ParseProtocol("256"); err == nil {
		t.Error("protocol 256 is read")
	}
}
