package rule

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/dns"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// step is the text form of an event.
type step struct {
	Event    string        `yaml:"event"` // exec, exec_check, access, handshake, ...
	Verdict  string        `yaml:"verdict"`
	At       time.Time     `yaml:"at"`    // the step before, unless given
	After    time.Duration `yaml:"after"` // and so much later
	Repeat   repeat        `yaml:"repeat"`
	Lineage  []string      `yaml:"lineage"`
	Ancestry []string      `yaml:"lineage_args"` // the command lines of those in lineage
	Workload struct {
		Name        string `yaml:"name"`
		Kind        string `yaml:"kind"`
		ContainerID string `yaml:"container_id"`
		SPIFFEID    string `yaml:"spiffe_id"`
	} `yaml:"workload"`
	User struct {
		Name     string `yaml:"name"`
		Home     string `yaml:"home"`
		Shell    string `yaml:"shell"`
		Group    string `yaml:"group"`
		GID      uint32 `yaml:"gid"`
		LoginUID *int64 `yaml:"login_uid"` // nobody, unless given
	} `yaml:"user"`
	Container struct {
		Name      string `yaml:"name"`
		Runtime   string `yaml:"runtime"`
		Image     string `yaml:"image"`
		Pod       string `yaml:"pod"`
		Namespace string `yaml:"namespace"`

		Privileged *bool `yaml:"privileged"` // neither it nor its mounts are known, unless given
		Mounts     []struct {
			Source      string `yaml:"source"`
			Dest        string `yaml:"dest"`
			Mode        string `yaml:"mode"`
			Propagation string `yaml:"propagation"`
			Writable    bool   `yaml:"writable"`
		} `yaml:"mounts"`
	} `yaml:"container"` // of the workload's container_id
	Environ map[string]string   `yaml:"env"`   // of the process
	Names   map[string][]string `yaml:"names"` // the addresses of names of hosts
	Process struct {
		Path string `yaml:"path"`
		Args string `yaml:"args"`
		Cwd  string `yaml:"cwd"`
		Comm string `yaml:"comm"`
		UID  uint32 `yaml:"uid"`
	} `yaml:"process"`
	Exec struct {
		Path     string `yaml:"path"`
		Filename string `yaml:"filename"`
		Args     string `yaml:"args"`
		Cwd      string `yaml:"cwd"`
		Comm     string `yaml:"comm"`
		UID      uint32 `yaml:"uid"`
		Unlinked bool   `yaml:"unlinked"`
		Detached bool   `yaml:"detached"`
		Script   bool   `yaml:"script"`
		Upper    bool   `yaml:"upper"`
		TTY      uint32 `yaml:"tty"` // device number, 0: none

		CwdDetached bool `yaml:"cwd_detached"` // cwd does not lead to the process's root
		StdioInet   bool `yaml:"stdio_inet"`   // standard input and output are sockets of IPv4 or IPv6
	} `yaml:"exec"`
	Handshake struct {
		Library      string    `yaml:"library"`
		Role         string    `yaml:"role"`
		OK           bool      `yaml:"ok"`
		Version      uint16    `yaml:"version"`
		Suite        uint16    `yaml:"suite"`
		Group        uint16    `yaml:"group"`
		Alert        *int16    `yaml:"alert"`
		Verify       int32     `yaml:"verify_result"`
		Reason       uint32    `yaml:"reason"`
		SNI          string    `yaml:"sni"`
		ALPN         string    `yaml:"alpn"`
		PeerSPIFFEID string    `yaml:"peer_spiffe_id"`
		NotAfter     time.Time `yaml:"peer_not_after"`
	} `yaml:"handshake"`
	Access struct {
		Op       string `yaml:"op"` // read, write, connect, ...
		Path     string `yaml:"path"`
		Protocol string `yaml:"protocol"`
		Address  string `yaml:"address"`
		Port     uint16 `yaml:"port"`
		Value    string `yaml:"value"`       // a number, or its name
		Local    string `yaml:"local"`       // of accept, whose address is the client's, and of dup: ours
		Client   uint16 `yaml:"client_port"` // of accept

		Call       string `yaml:"call"`       // of dup: dup, dup2 or dup3
		Descriptor uint32 `yaml:"descriptor"` // of dup, the new one
		LocalPort  uint16 `yaml:"local_port"` // of dup, ours

		Query struct {
			Name string `yaml:"name"`
			Type string `yaml:"type"` // A, unless given
		} `yaml:"query"` // of dns_query; without a name, what was sent is none

		Begins string `yaml:"begins"` // of tcp_begin: tls, upgrade or plaintext

		Comm     string `yaml:"comm"` // of the thread; the process's unless given
		Unlinked bool   `yaml:"unlinked"`
		Known    bool   `yaml:"in_baseline"` // the baseline that the workload is compared with holds it

		ByAncestor    bool `yaml:"by_ancestor"`    // of ptrace and write: who does it is above the process that it is about
		HostNamespace bool `yaml:"host_namespace"` // of read, write and ptrace: it leads into one of the host's

		Flags *uint32 `yaml:"flags"` // of read and write: of open(2), as x86 numbers them
		Mode  *uint32 `yaml:"mode"`  // of create: type and permissions; of attributes: what chmod sets
		Said  string  `yaml:"said"`  // of read and write: the path as the caller wrote it; of create: the target of a link
	} `yaml:"access"`
	Pause struct {
		GC    bool          `yaml:"gc"`
		Total time.Duration `yaml:"total"`
	} `yaml:"pause"`
}

// repeat makes equal events of one, but for what varies.
type repeat struct {
	Times int           `yaml:"times"` // 1 to 10000
	Every time.Duration `yaml:"every"`
	Vary  []string      `yaml:"vary"` // port and address count up, path gets a number, and so has query in place of its first letters
}

// appendTo adds the step's events to the test, the first of them after at. It returns the time of the last.
func (t *step) appendTo(test *Test, at time.Time, left *int) (time.Time, error) {
	ev, err := t.event()
	if err != nil {
		return at, err
	}
	names, err := ParseNames(t.Names)
	if err != nil {
		return at, err
	}
	r := t.Repeat
	switch {
	case r.Times < 0 || r.Times > maxRepeat:
		return at, fmt.Errorf("repeat: times is a number from 1 to %d", maxRepeat)
	case r.Every < 0 || t.After < 0:
		return at, errors.New("time goes forward: after and every are not negative")
	}
	if !t.At.IsZero() {
		at = t.At
	}
	at = at.Add(t.After)
	w := t.Workload
	for i := range max(1, r.Times) {
		if *left--; *left < 0 {
			return at, fmt.Errorf("more than %d events in the file", maxSteps)
		}
		if i > 0 {
			at = at.Add(r.Every)
			if err := vary(&ev, t.Access.Path, r.Vary, i); err != nil {
				return at, err
			}
		}
		one := Step{Event: ev, Workload: Workload{w.Name, w.Kind, w.ContainerID, w.SPIFFEID}, At: at, Names: names, Variables: t.Environ}
		t.facts(&one)
		test.Steps = append(test.Steps, one)
	}
	return at, nil
}

// facts fills in what is known beside the event.
func (t *step) facts(to *Step) {
	u, c := t.User, t.Container
	to.User = User{u.Name, u.Home, u.Shell}
	to.Session = Session{GID: u.GID, Group: u.Group, LoginUID: -1}
	if u.LoginUID != nil {
		to.Session.LoginUID = *u.LoginUID
	}
	to.Container = Container{Name: c.Name, Runtime: c.Runtime, Image: c.Image, Pod: c.Pod, Namespace: c.Namespace}
	if c.Privileged != nil {
		to.Container.Confined, to.Container.Privileged = true, *c.Privileged
		for _, m := range c.Mounts {
			to.Container.Mounts = append(to.Container.Mounts, Mount(m))
		}
	}
	to.Container.Repository, to.Container.Tag, to.Container.Digest = SplitImage(c.Image)
}

// vary makes the nth repetition of an event differ. In a name, the number and a hyphen take the place of as many bytes.
func vary(ev *event.Event, path string, what []string, n int) error {
	for _, part := range what {
		switch part {
		case "port":
			ev.Access.Port++
		case "address":
			next := ev.Access.Address.Addr().Next()
			if !next.IsValid() {
				return errors.New("repeat: there is no address to vary, or none after it")
			}
			ev.Access.Address = netip.PrefixFrom(next, next.BitLen())
		case "path":
			ev.Access.Path = path + strconv.Itoa(n)
		case "query":
			q, number := ev.Access.Question, strconv.Itoa(n)+"-"
			if len(number) > strings.IndexByte(q.Name+".", '.') {
				return errors.New("repeat: there is no name to vary, or its first label is too short for the number")
			}
			ev.Access.Question, _ = dns.Ask(number+q.Name[len(number):], q.Type)
		default:
			return fmt.Errorf("repeat: cannot vary %.40q: want port, address, path or query", part)
		}
	}
	return nil
}

// named finds the value that has a name; "" is the first.
func named[T fmt.Stringer](what, name string, values ...T) (T, error) {
	for _, v := range values {
		if name == "" || v.String() == name {
			return v, nil
		}
	}
	return values[0], fmt.Errorf("unknown %s %q", what, name)
}

// event makes the event of a step.
func (t *step) event() (ev event.Event, err error) {
	var errs [6]error
	ev.Kind, errs[0] = named("event", t.Event, event.Exec, event.ExecCheck, event.Fork, event.Exit, event.Handshake, event.Pause, event.Access)
	ev.Verdict, errs[1] = named("verdict", t.Verdict, event.Allow, event.Audit, event.Deny)
	ev.Tgid, ev.Hook = 4711, event.HookTracepoint
	p, x, h := t.Process, t.Exec, t.Handshake
	ev.Process = event.Process{PID: 4711, PPID: 4710, Path: p.Path, Args: p.Args, Cwd: p.Cwd, Comm: p.Comm, UID: p.UID, Lineage: t.Lineage}
	if len(t.Lineage) > 0 {
		ev.Process.Parent = t.Lineage[0]
	}
	for i, path := range t.Lineage {
		a := event.Ancestor{Comm: shortened(base(path))}
		if i < len(t.Ancestry) {
			a.Args = t.Ancestry[i]
		}
		ev.Process.Ancestors = append(ev.Process.Ancestors, a)
	}
	if len(t.Ancestry) > len(t.Lineage) {
		errs[5] = errors.New("lineage_args has more than lineage")
	}
	ev.Exec = event.ExecInfo{
		Path: x.Path, Filename: x.Filename, Args: x.Args, Cwd: x.Cwd, Comm: x.Comm, UID: x.UID,
		Unlinked: x.Unlinked, Detached: x.Detached, Script: x.Script, Upper: x.Upper, StdioInet: x.StdioInet, CwdDetached: x.CwdDetached,
		Membership: event.Membership{VPID: 4711, Group: 4711, Session: 4711, TTY: x.TTY},
	}
	ev.Handshake = event.HandshakeInfo{
		OK: h.OK, Version: h.Version, Suite: h.Suite, Group: h.Group, Alert: -1, VerifyResult: h.Verify, Reason: h.Reason,
		ServerName: h.SNI, ALPN: h.ALPN, PeerSPIFFEID: h.PeerSPIFFEID,
	}
	ev.Handshake.Library, errs[2] = named("library", h.Library, event.LibraryGo, event.LibraryOpenSSL)
	ev.Handshake.Role, errs[3] = named("role", h.Role, event.Client, event.Server)
	if h.Alert != nil {
		ev.Handshake.Alert = *h.Alert
	}
	if !h.NotAfter.IsZero() {
		ev.Handshake.HasPeer, ev.Handshake.PeerNotAfter = true, h.NotAfter.Unix()
	}
	ev.Pause = event.PauseInfo{GC: t.Pause.GC, Total: uint64(t.Pause.Total.Nanoseconds())}
	errs[4] = t.access(&ev)
	return ev, errors.Join(errs[:]...)
}

// access fills in the operation of an access. It has only what such operations have: no rule is tested
// with what it never meets.
func (t *step) access(ev *event.Event) error {
	a := t.Access
	if ev.Kind != event.Access {
		if a != (step{}).Access {
			return errors.New("access belongs to the event access")
		}
		return nil
	}
	key := event.Key{Path: a.Path, Port: a.Port}
	var errs [5]error
	key.Op, errs[0] = event.ParseOperation(a.Op)
	switch op := key.Op; {
	case op == event.OpUnspecified:
	case a.Path != "" && !op.OnPath():
		errs[4] = fmt.Errorf("%s has no path", op)
	case (a.Protocol != "" || a.Address != "" || a.Port != 0) && !op.OnAddress():
		errs[4] = fmt.Errorf("%s has no protocol, address and port", op)
	case a.Value != "" && !op.OnNumber():
		errs[4] = fmt.Errorf("%s has no value", op)
	}
	if a.Protocol != "" {
		key.Protocol, errs[1] = event.ParseProtocol(a.Protocol)
	}
	if a.Address != "" {
		var addr netip.Addr
		addr, errs[2] = netip.ParseAddr(a.Address)
		key.Address = netip.PrefixFrom(addr, addr.BitLen())
	}
	if a.Value != "" {
		key.Value, errs[3] = event.ParseValue(key.Op, a.Value)
	}
	ev.Access = event.AccessInfo{Key: key, Comm: cmp.Or(a.Comm, t.Process.Comm), Unlinked: a.Unlinked, Known: a.Known, Said: a.Said, ByAncestor: a.ByAncestor, HostNamespace: a.HostNamespace}
	return errors.Join(append(errs[:], t.detail(&ev.Access), t.ends(&ev.Access), t.question(&ev.Access), t.beginning(&ev.Access))...)
}

// beginning fills in what a connection begins with.
func (t *step) beginning(a *event.AccessInfo) (err error) {
	if begins := t.Access.Begins; begins != "" {
		a.Begins, err = named("begins", begins, event.Beginnings()...)
		if a.Op != event.OpTCPBegin {
			err = fmt.Errorf("%s has no begins", a.Op)
		}
	}
	return err
}

// question fills in what a name server is asked.
func (t *step) question(a *event.AccessInfo) error {
	q := t.Access.Query
	kind, ok := dns.ParseType(cmp.Or(q.Type, "A"))
	switch {
	case q.Name == "" && q.Type == "":
		return nil
	case a.Op != event.OpDNSQuery:
		return fmt.Errorf("%s has no query", a.Op)
	case !ok:
		return fmt.Errorf("query: type %.40q is no name of one", q.Type)
	}
	if a.Question, ok = dns.Ask(q.Name, kind); !ok {
		return fmt.Errorf("query: name %.300q is none", q.Name)
	}
	return nil
}

// ends fills in the ends of a connection beside the key.
func (t *step) ends(a *event.AccessInfo) (err error) {
	local, call := t.Access.Local, t.Access.Call
	switch of := t.Access; {
	case a.Op != event.OpAccept && of.Client != 0 || a.Op != event.OpAccept && a.Op != event.OpDup && local != "":
		return fmt.Errorf("%s has no local and client_port", a.Op)
	case a.Op != event.OpDup && (call != "" || of.Descriptor != 0 || of.LocalPort != 0):
		return fmt.Errorf("%s has no call, descriptor and local_port", a.Op)
	case a.Op == event.OpDup && call != "" && call != "dup" && call != "dup2" && call != "dup3":
		return fmt.Errorf("call: %.40q is not dup, dup2 or dup3", call)
	}
	a.ClientPort, a.LocalPort = t.Access.Client, t.Access.LocalPort
	a.Call, a.Descriptor = call, t.Access.Descriptor
	if local != "" {
		a.Local, err = netip.ParseAddr(local)
	}
	return err
}

// detail fills in what the call told beside the key.
func (t *step) detail(a *event.AccessInfo) error {
	opens, makes := a.Op == event.OpRead || a.Op == event.OpWrite, a.Op == event.OpCreate || a.Op == event.OpAttributes
	switch flags, mode := t.Access.Flags, t.Access.Mode; {
	case flags != nil && opens:
		a.Detailed, a.OpenFlags = true, *flags
	case mode != nil && makes:
		a.Detailed, a.Mode = true, *mode
	case flags != nil:
		return fmt.Errorf("%s has no flags", a.Op)
	case mode != nil:
		return fmt.Errorf("%s has no mode", a.Op)
	case a.Said != "" && !opens && a.Op != event.OpCreate:
		return fmt.Errorf("%s has nothing said", a.Op)
	}
	return nil
}
