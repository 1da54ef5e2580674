// Package event is what was observed: one Event, decoded from one ring-buffer record. It has no
// behaviour, no I/O and no clock, and must never gain a second representation of an observation.
//
// Strings and byte slices of an Event alias the reader's buffer: they are valid until the next
// event is decoded into it. Whoever keeps one, clones it.
//
//	var ev event.Event
//	if err := s.Decode(record, &ev); err == nil && ev.Kind == event.Exec {
//		fmt.Println(ev.Exec.Path)
//	}
package event

import (
	"net/netip"

	"github.com/plumbline-io/plumbline/pkg/dns"
)

// Kind says which family of facts an Event carries. The values are bpf/event.h's.
type Kind uint16

// The kinds, in the order of enum event_kind.
const (
	Unspecified Kind = iota
	Fork
	Exec
	Exit
	ExecCheck // an execution that the baseline does not know
	Handshake
	Pause
	Cgroup
	Access // any other operation that the baseline does not know
	KindCount
)

// Verdict is what happened to the operation.
type Verdict uint8

// The verdicts. Audit means: allowed, and would have been denied under enforce.
const (
	Allow Verdict = iota
	Audit
	Deny
)

// Hook is where the observation was made or the verdict taken.
type Hook uint8

// The hooks, in the order of enum hook.
const (
	HookUnspecified Hook = iota
	HookTracepoint
	HookLSM     // the operation returns EPERM
	HookFmodRet // the operation returns EPERM
	HookSignal  // SIGKILL before the new image runs its first instruction
	HookUprobe
	HookCgroup   // cgroup/connect and its like: the operation returns EPERM
	HookFanotify // a permission event that the agent answered: execve returns EPERM
	HookFentry   // of a function of the kernel: observed only
)

// Mode is how a workload is held to its baseline.
type Mode uint8

// The modes, weakest first.
const (
	Off Mode = iota
	Learn
	AuditMode
	Enforce
)

// Event is one observation. Only the part that Kind names is meaningful, besides the header fields
// and Process.
type Event struct {
	Kind     Kind
	Verdict  Verdict
	Hook     Hook
	Ktime    uint64 // CLOCK_MONOTONIC, nanoseconds, at the hook
	CgroupID uint64 // in the hierarchy the agent chose
	Tgid     uint32 // in the initial pid namespace
	Tid      uint32
	Workload uint32 // id in the kernel's workload map, 0: unknown
	RuleID   uint32 // of the rule that denied it; 0: none did
	Deviates bool   // denied by a rule, and outside of the baseline too

	Process   Process // who acted, from the process table
	Fork      ForkInfo
	Exec      ExecInfo // Exec and ExecCheck
	Access    AccessInfo
	Exit      ExitInfo
	Handshake HandshakeInfo
	Pause     PauseInfo
	Cgroup    CgroupInfo
}

// Repeats is how many equal events the kernel has not told since its last report. With the signal strength it
// tells each.
func (ev *Event) Repeats() int {
	switch {
	case ev.Hook == HookSignal:
		return 0
	case ev.Kind == ExecCheck:
		return int(ev.Exec.Repeated)
	case ev.Kind == Access:
		return int(ev.Access.Repeated)
	}
	return 0
}

// Process is the acting process, as the process table knows it.
type Process struct {
	PID     uint32 // thread group id
	PPID    uint32
	Start   uint64 // clock ticks (100 a second) since boot, as /proc/PID/stat field 22; with PID the identity of a process
	UID     uint32
	Comm    string
	Path    string // executable as seen from the process's root
	Args    string // arguments joined by single spaces
	Cwd     string
	Parent  string   // executable of the parent, "" if unknown
	Lineage []string // executables of the ancestors, nearest first
	Partial bool     // first seen running: its history is not known

	Membership            // at its last exec, or when it was found running
	Leader     string     // what the leader of its session is called, "" if unknown
	Ancestors  []Ancestor // what is known of those of Lineage beside, in its order
}

// Membership is what a process belongs to.
type Membership struct {
	VPID    uint32 // process id in its innermost pid namespace; 0: nothing of this is known
	Session uint32 // process id of the session's leader, in the initial pid namespace
	Group   uint32 // of the process group's leader, likewise
	TTY     uint32 // device number of the terminal that controls the session, as /proc/PID/stat field 7; 0: none

	// When the first process of its pid namespace was started, clock ticks since boot; 0: not known, or the initial one.
	Namespace uint64
}

// Capabilities are what a thread may do, with a bit for each of capabilities(7).
type Capabilities struct {
	Permitted, Effective, Inheritable uint64
	Known                             bool
}

// Ancestor is a process that another one comes from. What is not known is empty.
type Ancestor struct {
	Start uint64 // clock ticks since boot
	Comm  string // after its last exec
	Args  string // arguments joined by single spaces
}

// ForkInfo: Event.Tgid is the parent.
type ForkInfo struct {
	Child      uint32
	ChildVPID  uint32 // in its innermost pid namespace, 0: not known
	ChildStart uint64 // ticks
}

// ExecInfo describes a new image, or the attempt to load one.
type ExecInfo struct {
	PPID        uint32
	Start       uint64 // clock ticks since boot
	UID         uint32
	Inode       uint64
	Device      uint32
	Changed     uint64 // of the file, by content, attributes or name: its ctime, nanoseconds since 1970
	Modified    uint64 // of the file, by content: its mtime, nanoseconds since 1970
	Path        string // resolved, as seen from the process's root
	Filename    string // as the caller wrote it
	Args        string // NUL bytes replaced by spaces
	Cwd         string
	Comm        string // before the exec for ExecCheck, after it for Exec
	Truncated   bool   // path, args or cwd were longer than the record
	Partial     bool   // Path is not complete: it is longer or deeper than the kernel side follows
	Unlinked    bool   // the file had no name any more (deleted or memfd)
	Detached    bool   // the path does not lead to the process's root
	Script      bool   // Filename is a script that Path interprets
	Upper       bool   // the file is in the upper layer of an overlayfs
	CwdDetached bool   // Cwd does not lead to the process's root
	StdioInet   bool   // standard input and output are sockets of IPv4 or IPv6
	OtherName   bool   // of ExecCheck: a rule denies Path, by which the file was not reached; Filename says how it was
	Repeated    uint16 // ExecCheck: equal ones that were not reported since the last report; at most 65535

	Membership
	Capabilities Capabilities // for ExecCheck, before the exec
}

// AccessInfo is an operation other than an execution. Key.Path aliases like every string of an Event.
type AccessInfo struct {
	Key
	Start    uint64 // of the process, clock ticks since boot
	Inode    uint64 // of the file, 0: none
	Device   uint32
	Repeated uint32 // equal operations that were not reported since the last report
	Partial  bool   // Path is not complete
	Unlinked bool   // the file has no name any more
	Detached bool   // the path does not lead to the process's root
	Known    bool   // the baseline that the workload is compared with holds it
	SetUp    bool   // not of the unit but of init, before the unit's program runs: nothing to learn
	Comm     string

	ByAncestor    bool // of OpPtrace, and of OpWrite below /proc/PID: who does it is above the process that it is about
	HostNamespace bool // of OpRead, OpWrite and OpPtrace: it leads into a namespace of the host's, where who does it is not

	Capabilities Capabilities // of the thread, at the operation

	Detailed  bool   // the next two are told, by one of its calls
	OpenFlags uint32 // of OpRead and OpWrite: of open(2), as this architecture numbers them
	Mode      uint32 // of OpCreate, the type and permissions of what is made; of OpAttributes, what chmod sets
	Said      string // of OpRead and OpWrite: the path as the caller wrote it; of OpCreate: a symbolic link's target

	// What Key has not of both ends of a socket.
	Local      netip.Addr // of OpAccept and OpDup: our address
	ClientPort uint16     // of OpAccept
	LocalPort  uint16     // of OpDup

	Call       string // of OpDup: dup, dup2 or dup3
	Descriptor uint32 // of OpDup: the new one

	Question dns.Question // of OpDNSQuery; without a Name, what was sent is no query

	Begins Beginning // of OpTCPBegin

	// Why a rule denies what it does not say.
	Reached  string // by this name, of what is called Path too, which it denies
	Renames  bool   // what it denies would get another name, or a directory above it
	Replaces bool   // a file that it denies to write would be replaced
}

// Types of what OpCreate makes, in AccessInfo.Mode: inode(7).
const (
	TypeMask      = 0o170000
	TypeFile      = 0o100000
	TypeDirectory = 0o040000
	TypeLink      = 0o120000
)

// ExitInfo: the last thread of the process ended.
type ExitInfo struct {
	Start   uint64 // start of the process, ticks
	Started uint64 // the same, CLOCK_MONOTONIC in nanoseconds
	Code    int32  // exit status, or -1 when Signal is set
	Signal  int32
	Main    bool // its parent is not of its workload, as that of a service's main process is not
}

// Role of a TLS endpoint.
type Role uint8

// The roles.
const (
	RoleUnknown Role = iota
	Client
	Server
)

// Library that did the handshake.
type Library uint8

// The libraries, in the order of enum tls_library.
const (
	LibraryUnknown Library = iota
	LibraryGo
	LibraryOpenSSL
)

// HandshakeInfo is the metadata of one TLS handshake. Never plaintext, never keys.
type HandshakeInfo struct {
	Library         Library
	Role            Role
	OK              bool
	Resumed         bool
	Version         uint16 // 0x0304 is TLS 1.3
	Suite           uint16 // IANA cipher suite
	Group           uint16 // IANA named group, 0: not known
	Alert           int16  // alert sent, -1: none
	VerifyResult    int32  // X509_V_*, OpenSSL only
	Reason          uint32 // OpenSSL error reason, 0: none
	Duration        uint64 // nanoseconds
	ServerName      string
	ALPN            string
	PeerFingerprint [32]byte // SHA-256 of the peer's leaf certificate; zero: none
	HasPeer         bool
	PeerSPIFFEID    string // URI SAN of the peer's leaf, if it is a SPIFFE ID
	PeerNotAfter    int64  // Unix seconds, 0: unknown
}

// PauseInfo is one stop-the-world pause.
type PauseInfo struct {
	Reason   uint8  // the Go runtime's stwReason, 0: unknown
	GC       bool   // caused by the garbage collector
	Stopping uint64 // nanoseconds until all threads stood still, 0: not known
	Total    uint64 // nanoseconds
}

// CgroupInfo: a cgroup appeared or went away below the scope.
type CgroupInfo struct {
	ID      uint64
	Path    string // below the hierarchy's mount point
	Removed bool
}
