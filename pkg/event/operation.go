package event

import (
	"fmt"
	"net/netip"
	"strconv"
)

// Operation is what a workload did, as far as baselines tell it apart. The values are
// bpf/operation.h's.
type Operation uint8

// The operations. From OpExec on they are about a path, from OpConnect on about an address, from OpSocket on about a
// number, from OpAccept on, which rules alone are told of, about an address, and from OpExecAsRoot on about a path again.
const (
	OpUnspecified Operation = iota
	OpExec
	OpLibrary     // a file was mapped executable
	OpRead        // a file was opened for reading
	OpWrite       // a file was opened for writing, or truncated
	OpCreate      // a file, directory, device, fifo or symbolic link was made
	OpDelete      // unlink, rmdir
	OpRename      // asked for the old name and for the new one
	OpLink        // a hard link was made; asked for the old name and for the new one
	OpAttributes  // chmod, chown
	OpMount       // mount, move_mount, umount, pivot_root, chroot: on this path
	OpUnixConnect // connect or send to a Unix socket; an abstract one begins with '@'
	OpUnixBind    // bind of an abstract Unix socket; that of a path is OpCreate
	OpConnect
	OpBind
	OpListen
	OpSend                 // a datagram without connect
	OpSocket               // Value: address family << 16 | type << 8 | protocol, of all but TCP, UDP and Unix sockets
	OpCapability           // Value: the capability, capabilities(7)
	OpPtrace               // Value: PtraceRead, PtraceAttach, with PtraceOther if the other one is in another workload
	OpUserns               // a user namespace was made
	OpModule               // a kernel module was loaded
	OpBPF                  // Value: the command, bpf(2)
	OpPerf                 // perf_event_open(2)
	OpIOUring              // io_uring_setup(2)
	OpUserfault            // userfaultfd(2)
	OpSetuid               // Value: the new real user id
	OpSetgid               // Value: the new real group id
	OpSignal               // Value: the signal, sent to a process of another workload
	OpKeyctl               // add_key(2), request_key(2) or keyctl(2): a key or keyring of a user's was made, looked for or used
	OpNamespace            // Value: the number of the kind's bit among CLONE_NEW*, 0 if that is not known; with NamespaceEntered
	OpSyscall              // Value: a syscalls.Call, which is learnt and never held
	OpAccept               // a TCP connection was taken, from Address, on Port of ours
	OpDup                  // dup, dup2 or dup3 made a descriptor of a socket, whose other end is at Address and Port; no Protocol: a Unix socket
	OpDNSQuery             // a datagram was sent to port 53 of Address
	OpTCPBegin             // a TCP connection that the workload made to Address and Port began to carry data
	OpExecAsRoot           // a set-uid file was executed, which made somebody else root
	OpExecAsUser           // the same, another user than root
	OpExecAsGroup          // a set-gid file was executed
	OpExecWithCapabilities // a file was executed whose capabilities the process did not have
	OpCount
)

// NamespaceEntered, beside the kind, is what OpNamespace has if the namespace was there before. A new user namespace is
// OpUserns.
const NamespaceEntered = 1 << 31

// What OpPtrace was for. Reading and writing /proc/PID/mem and process_vm_writev(2) count as attach.
const (
	PtraceRead   = 1
	PtraceAttach = 2
	PtraceOther  = 1 << 8
)

// OnPath says whether a Key of this operation has a path.
func (o Operation) OnPath() bool { return o >= OpExec && o < OpConnect || o.GivesRights() }

// GivesRights says whether an operation is the execution of a file that gives rights which the process did not have.
func (o Operation) GivesRights() bool { return o >= OpExecAsRoot && o < OpCount }

// OnAddress says whether a Key of this operation has protocol, address and port.
func (o Operation) OnAddress() bool { return o >= OpConnect && o < OpSocket || o.OnlyTold() }

// OnlyTold says whether an operation is told while a rule asks for it, and is in no baseline.
func (o Operation) OnlyTold() bool { return o >= OpAccept && o < OpExecAsRoot }

// OnNumber says whether a Key of this operation has a number.
func (o Operation) OnNumber() bool { return o >= OpSocket && o <= OpSyscall }

// Dimension is a group of operations: one section of a baseline, held or not held as a whole.
type Dimension uint8

// The dimensions, in the order of a baseline's sections.
const (
	DimExec Dimension = iota
	DimLibrary
	DimFile
	DimUnix
	DimNetwork
	DimPrivilege
	DimSyscalls // learnt, and never held
	DimCount
)

// Dimension of an operation.
func (o Operation) Dimension() Dimension {
	switch {
	case o == OpExec:
		return DimExec
	case o == OpLibrary:
		return DimLibrary
	case o < OpUnixConnect:
		return DimFile
	case o < OpConnect:
		return DimUnix
	case o.OnAddress():
		return DimNetwork
	case o < OpSyscall || o.GivesRights():
		return DimPrivilege
	default:
		return DimSyscalls
	}
}

// Dimensions is a set of them.
type Dimensions uint8

// AllDimensions is every one that a workload can be held in.
const AllDimensions = Dimensions(1<<DimSyscalls - 1)

// Has says whether d is in the set.
func (s Dimensions) Has(d Dimension) bool { return s&(1<<d) != 0 }

// With is the set and d.
func (s Dimensions) With(d Dimension) Dimensions { return s | 1<<d }

// Protocol is an IP protocol number; only ProtocolTCP and ProtocolUDP have names.
type Protocol uint8

// The protocols that have names.
const (
	ProtocolTCP Protocol = 6
	ProtocolUDP Protocol = 17
)

// Key is what a baseline holds, and what the kernel compares. Two Keys are the same operation on the
// same thing exactly if they are equal.
type Key struct {
	Op       Operation
	Protocol Protocol     // OnAddress
	Port     uint16       // OnAddress; 0: any
	Value    uint32       // OnNumber
	Path     string       // OnPath. A final "/**" stands for everything below.
	Address  netip.Prefix // OnAddress; not valid: any
}

// String is the key in one line, as alerts and explain show it.
func (k Key) String() string {
	switch {
	case k.Op == OpExec:
		return k.Path // what the alerts' key has always been
	case k.Op.OnPath():
		return k.Op.String() + " " + k.Path
	case k.Op == OpDup && k.Protocol == 0:
		return k.Op.String() + " unix"
	case k.Op.OnAddress():
		address, port := "any", "any"
		if k.Address.IsValid() {
			address = k.Address.String()
			if k.Address.IsSingleIP() {
				address = k.Address.Addr().String()
			}
		}
		if k.Port != 0 {
			port = strconv.Itoa(int(k.Port))
		}
		return fmt.Sprintf("%s %s %s port %s", k.Op, k.Protocol, address, port)
	default:
		return k.Op.String() + " " + ValueName(k.Op, k.Value)
	}
}
