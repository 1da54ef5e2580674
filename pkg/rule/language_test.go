package rule

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// access is an operation of a process that nginx started.
func access(k event.Key) *Env {
	e := shell()
	e.Event.Kind, e.Event.Access = event.Access, event.AccessInfo{Key: k, Comm: "sh", Start: 100}
	e.Event.Ktime = 3_000_000_000
	e.Event.Process.PID, e.Event.Process.UID = 7, 33
	e.Event.Process.Path, e.Event.Process.Args = "/usr/bin/dash", "sh -c id"
	return e
}

func onAddress(op event.Operation, p event.Protocol, addr string, port uint16) *Env {
	a := netip.MustParseAddr(addr)
	return access(event.Key{Op: op, Protocol: p, Address: netip.PrefixFrom(a, a.BitLen()), Port: port})
}

func holds(t *testing.T, e *Env, vectors map[string]bool) {
	t.Helper()
	for condition, want := range vectors {
		c, m := compiledCondition(condition)
		if m != nil {
			t.Errorf("%s: %d: %s", condition, m.at, m.message)
			continue
		}
		if got := c.check(e); got != want {
			t.Errorf("%s: got %t", condition, got)
		}
		// Package regexp keeps its memory in a pool, which forgets on purpose under the race detector.
		if n := testing.AllocsPerRun(10, func() { c.check(e) }); n != 0 && !strings.Contains(condition, "regex") {
			t.Errorf("%s: %v allocations", condition, n)
		}
	}
}

// What Falco's documentation says of operators, lists, modifiers and transformers.
func TestOperators(t *testing.T) {
	holds(t, shell(), map[string]bool{
		`proc.name iglob S?`:                                                   true,
		`proc.exepath iglob "/USR/*/[D-F]ASH"`:                                 true,
		`proc.exepath iglob "/USR/*/[!d-f]ASH"`:                                false,
		`proc.exepath glob "/usr/[[:alpha:]]in/*"`:                             true,
		`proc.exepath glob "[[:punct:]]u[[:lower:]][[:alnum:]]/[![:space:]]*"`: true,
		`proc.exepath glob "/usr/[[:upper:]]in/*" or proc.exepath glob "/[[:blank:]]*" or proc.exepath glob "/[[:nonsense:]]*"`: false,
		`proc.exepath iglob "/usr/[[:upper:]]in/*" and proc.exepath glob "/usr/[[:xdigit:]]in/*"`:                               true,
		`proc.exepath glob "/usr/[[:digit:]]in/*"`:                                                                              false,
		`proc.exepath regex "/usr/(s?bin)/d.*h"`:                                                                                true,
		`proc.exepath regex "usr/bin/dash"`:                                                                                     false, // the whole text
		`proc.exepath regex "/usr|/usr/bin/dash"`:                                                                               true,
		`proc.exepath pmatch (/etc, /usr/*)`:                                                                                    true,
		`proc.exepath pmatch (/usr/*/dash)`:                                                                                     true,
		`proc.exepath pmatch (/usr/*/sh)`:                                                                                       false,
		`proc.exepath pmatch (/usr/s?in, /u?r/[a-c]in)`:                                                                         true,
		`proc.exepath pmatch (usr)`:                                                                                             false,
		`proc.exepath pmatch (//usr///bin)`:                                                                                     true,
		`proc.exepath pmatch ()`:                                                                                                false,
		`proc.name intersects (sh, x)`:                                                                                          true,
		`proc.name in some`:                                                                                                     true,
		`proc.name = one`:                                                                                                       true, // a list of one value
		`proc.name in (some, x,y)`:                                                                                              true,
		`proc.name = "one"`:                                                                                                     false,
		`proc.cmdline startswith oneof ("sh ", bash, "sh -c")`:                                                                  false,
		`proc.cmdline startswith oneof ("sh ", bash)`:                                                                           true,
		`proc.cmdline contains anyof (x, " -c ")`:                                                                               true,
		`proc.cmdline contains allof (id, " -c ")`:                                                                              true,
		`proc.cmdline contains allof (id, " -d ")`:                                                                              false,
		`proc.cmdline contains allof ()`:                                                                                        false,
		`proc.cmdline contains anyof ()`:                                                                                        false,
		`proc.name = anyof (a, sh)`:                                                                                             true,
		`proc.name = anyof some`:                                                                                                true,
		`proc.name != allof (a, b)`:                                                                                             true,
		`proc.name != allof (a, sh)`:                                                                                            false,
		`proc.name != anyof (a, sh)`:                                                                                            true,
		`tls.sni != anyof (a, b)`:                                                                                               false, // no such value
		`proc.name = oneof`:                                                                                                     false, // an ordinary word
		`user.uid = anyof (1, 33)`:                                                                                              true,
		`user.uid != oneof (33, 34)`:                                                                                            true,
		`user.uid intersects (0x21)`:                                                                                            true,
		`proc.is_exe_unlinked in (false, true)`:                                                                                 true,
		`proc.is_exe_unlinked in (true)`:                                                                                        false,
		`not not not proc.name = sh`:                                                                                            false,
		`proc.name = sh and(user.uid=33)`:                                                                                       true,
		`proc.name in ('a b', "sh")`:                                                                                            true,
		`proc.cmdline = "sh\t-c id" or proc.cmdline = "sh -c id"`:                                                               true,
		`proc.pname in (x, nginx) or proc.aname in (y)`:                                                                         true,
		`proc.aname != nginx`:                                                                                                   true, // some ancestor is not
		`proc.aname startswith anyof (sys, x)`:                                                                                  true,
		`proc.aname["1"] = nginx`:                                                                                               true,
	})
}

func TestTransformers(t *testing.T) {
	e := shell()
	e.Event.Exec.Args = "sh -x -o a -ob -c aWQ= -- -z"
	e.Event.Exec.Filename = "/BIN/Sh"
	holds(t, e, map[string]bool{
		`tolower(evt.arg.filename) = /bin/sh`:                                   true,
		`toupper(proc.name) = SH`:                                               true,
		`tolower(toupper(proc.name)) = sh`:                                      true,
		`tolower(proc.name) = SH`:                                               false,
		`basename(tolower(evt.arg.filename)) in (sh, dash)`:                     true,
		`len(proc.name) = 2 and len(proc.name) < 3`:                             true,
		`len(tls.sni) >= 0`:                                                     false,
		`tolower(tls.sni) exists`:                                               false,
		`concat(proc.name, "-", 7) = "sh-7"`:                                    true,
		`concat(proc.name, tls.sni) exists`:                                     false,
		`join(",", (proc.name, proc.pid, proc.is_exe_unlinked)) = "sh,7,false"`: true,
		`join(",", ()) = ""`:                                                    true,
		`len((proc.name, proc.pid)) = 2`:                                        true,
		`getopt(proc.args, "xo:c:")[c] = "aWQ="`:                                true,
		`b64(getopt(proc.args, "xo:c:")[c]) = id`:                               true,
		`b64(proc.name) exists`:                                                 true, // too short to be wrong
		`b64(proc.exepath) exists`:                                              false,
		`b64(proc.cmdline) exists`:                                              false,
		`getopt(proc.args, "xo:c:")[o] = b`:                                     true, // the last one
		`getopt(proc.args, "xo:c:")[z] exists`:                                  false,
		`getopt(proc.args, "xo:c:")[x] = x`:                                     true,
		`getopt(proc.args, "xo:c:") intersects (c, y)`:                          true,
		`getopt(proc.args, "xo:c:") in (x, o, a, b, c, "aWQ=")`:                 true,
		`getopt(proc.args, "xo:c:") in (x, o, a)`:                               false,
		`len(getopt(proc.args, "xo:c:")) = 7`:                                   true,
		`getopt(("-a", "--long", "-b"), "a")  in (a, "?")`:                      true,
		`getopt(("-b"), "b:")[b] = ""`:                                          true,
		`join("", getopt(("-ab", "c", "-d"), "a")) = "a?"`:                      true,
		`toupper(getopt(("-a"), "a")) in (A)`:                                   true,
		`proc.name = val(proc.name)`:                                            true,
		`proc.exepath != val(evt.arg.filename)`:                                 true,
		`basename(evt.arg.filename) = val(proc.name)`:                           false,
		`tolower(basename(evt.arg.filename)) = tolower(proc.name)`:              true,
		`proc.name startswith val(proc.name) and proc.exepath glob concat("/usr/*", val(proc.exepath))`: false,
		`proc.exepath endswith basename(proc.exepath)`:                                                  true,
		`proc.pid > val(proc.ppid)`:                                                                     true,
		`proc.pid = len(proc.cmdline)`:                                                                  false,
		`proc.pid >= val(proc.ppid) and proc.ppid <= val(proc.pid) and proc.ppid < val(proc.pid) and proc.pid != val(proc.ppid)`: true,
		`proc.pid in val(proc.ppid) or proc.pid = len(proc.name)`:                                                                false,
		`getopt(proc.args, "xo:c:") intersects getopt(("-x"), "x")`:                                                              true,
		`getopt(("-x"), "x") in getopt(proc.args, "xo:c:")`:                                                                      true,
		`getopt(proc.args, "xo:c:") in getopt(("-x"), "x")`:                                                                      false,
		`getopt((tls.sni), "x") intersects getopt(("-x"), "x") or getopt((tls.sni), "x") exists`:                                 false,
		`proc.cmdline contains val(proc.name) and proc.cmdline icontains toupper(proc.name)`:                                     true,
		`proc.name iglob val(proc.name) and proc.cmdline startswith val(proc.name) and proc.name in val(proc.name)`:              true,
		`join(",", (fd.sip)) exists or fd.sip exists`:                                                                            false,
		`proc.is_exe_unlinked = val(proc.is_exe_detached)`:                                                                       true,
		`tls.sni = val(tls.sni)`: false,
	})
}

// A list in parentheses is no operand of a comparison on its own.
func TestSyntax(t *testing.T) {
	for condition, want := range map[string]string{
		`proc.name in (a,)`:  "expected a value",
		`proc.name in (,a)`:  "expected a value",
		`proc.name in (a b)`: "expected , or )",
		`proc.name = some`:   "some is a list of 2 values: use in",
		`proc.name = empty`:  "empty is a list of 0 values",
		`proc.name = "a\d"`:  "unknown escape",
		`proc.name = "a\'"`:  "unknown escape",
		`proc.pid = 1_000`:   "is none",
		`proc.pid = 1.5`:     "is none",
		`getopt(proc.args, "a") = getopt(proc.args, "a")`:     "has only the operators exists, in and intersects",
		`proc.pid contains val(proc.pid)`:                     "proc.pid is a number and has no operator contains",
		`fd.sip contains val(fd.sip)`:                         "fd.sip has no operator contains for another field",
		`proc.pid regex 1`:                                    "has no operator regex",
		`proc.pid contains anyof (1)`:                         "has no operator contains",
		`proc.pid < anyof (1)`:                                "the operator < takes no anyof",
		`proc.name in anyof (a)`:                              "the operator in takes no anyof",
		`proc.name bcontains cafe`:                            "has no operator bcontains: that is for bytes",
		`proc.name bstartswith ca`:                            "has no operator bstartswith",
		`evt.buffer bcontains cafe`:                           "evt.buffer is refused: it is the plaintext",
		`fd.ip = localhost`:                                   `fd.ip is an address, "localhost" is neither one nor a network`,
		`fd.net in (10.0.0.0/33)`:                             "is neither one nor a network",
		`fd.ip > 1.1.1.1`:                                     "has no operator >",
		`fd.ip contains 1`:                                    "is neither one nor a network",
		`proc.env[HOME = a`:                                   "the [ is not closed",
		`proc.aname [1] = a`:                                  `expected an operator after proc.aname, found "[1]"`,
		`proc.pid = val(proc.name)`:                           "proc.pid cannot be compared with val(proc.name)",
		`proc.name = val(proc.aname)`:                         "cannot be compared",
		`proc.name regex val(proc.name)`:                      "has no operator regex for another field",
		`proc.name pmatch val(proc.name)`:                     "has no operator pmatch for another field",
		`proc.name = val(tolower(proc.name))`:                 "val takes a field",
		`proc.name = val("a")`:                                "val takes a field",
		`tolower(proc.pid) = a`:                               "proc.pid is no text",
		`len(proc.pid) = 1`:                                   "proc.pid has no length",
		`len(len(proc.name)) = 1`:                             "len(proc.name) has no length",
		`concat(proc.name) = a`:                               "concat takes two texts or more",
		`concat(proc.name, proc.pid) = a`:                     "proc.pid is no text",
		`join(",", proc.name) = a`:                            "proc.name is no list",
		`join(",") = a`:                                       "join takes a separator and a list",
		`getopt(proc.args) = a`:                               "getopt takes a list of arguments and a text of options",
		`getopt(proc.args, "a") = a`:                          "has only the operators exists, in and intersects",
		`getopt(proc.args, "a")[ab] = a`:                      "getopt takes one option in brackets",
		`getopt(proc.args, proc.name) in (a)`:                 "the options of getopt are a text in quotes",
		`tolower(proc.name)[1] = a`:                           "tolower takes nothing in brackets",
		`join(",", (getopt(proc.args, "a"))) = a`:             "is a list, and stands in one",
		`tolower(proc.name, proc.name) = a`:                   `expected ), found ","`,
		`tolower() = a`:                                       "expected a field or a transformer",
		`proc.name = tolower(`:                                "expected a field or a transformer, found the end",
		`(proc.name, proc.pid) in (a)`:                        "expected an operator after proc.name",
		`proc.name regex "` + strings.Repeat("a", 1001) + `"`: "more than 1000 bytes",
	} {
		t.Run(condition[:min(60, len(condition))], func(t *testing.T) {
			_, m := compiledCondition(condition)
			if m == nil || !strings.Contains(m.message, want) {
				t.Errorf("got %+v, want %q", m, want)
			}
		})
	}
}

// A command line begins with the name of the process, as Falco has it, and no arguments are known too.
func TestCommandLine(t *testing.T) {
	e := shell()
	e.Event.Exec.Args = "/bin/sh -c id"
	holds(t, e, map[string]bool{
		`proc.cmdline = "sh -c id" and proc.cmdline startswith "sh -c"`: true,
		`proc.exeline = "/bin/sh -c id" and proc.exe = /bin/sh`:         true,
		`proc.args = "-c id"`: true,
	})
	e.Event.Exec.Args = "-sh"
	holds(t, e, map[string]bool{`proc.cmdline = sh and proc.args = "" and proc.args exists`: true})
	e.Event.Exec.Args = ""
	holds(t, e, map[string]bool{`proc.cmdline exists or proc.args exists`: false})
}

// The fields of operations, under the names that Falco's rules ask for.
func TestAccessFields(t *testing.T) {
	denied := access(event.Key{Op: event.OpWrite, Path: "/etc/x"})
	denied.Event.Verdict = event.Deny
	for name, tc := range map[string]struct {
		env  *Env
		want map[string]bool
	}{
		"read": {access(event.Key{Op: event.OpRead, Path: "/etc/shadow"}), map[string]bool{
			`evt.type in (open,openat,openat2) and evt.is_open_read=true and fd.typechar='f' and fd.num>=0`: true,
			`evt.is_open_write = false`: true,
			`fd.name = /etc/shadow and fd.directory = /etc and fd.filename = shadow`:   true,
			`evt.arg.path = /etc/shadow and evt.arg.name = /etc/shadow`:                true,
			`fd.type = file and fd.type != ipv4`:                                       true,
			`fs.path.name = /etc/shadow and evt.failed = false`:                        true,
			`fd.num = 0 or fd.num = 3 or fd.num = -1`:                                  false,
			`evt.res = SUCCESS and evt.rawres >= 0`:                                    true,
			`proc.name = sh and proc.exepath = /usr/bin/dash and user.uid = 33`:        true,
			`proc.duration = 2000000000`:                                               true,
			`fd.ip exists or fd.port exists or fd.l4proto exists`:                      false,
			`evt.arg.filename exists or evt.arg.oldpath exists`:                        false,
			`proc.is_exe_unlinked exists`:                                              false,
			`evt.operation = read`:                                                     true,
			`user.name = root or not user.name = root`:                                 true,
			`fd.nameraw exists or evt.arg.flags contains O_TRUNC or evt.arg.fd exists`: false,
		}},
		"write": {denied, map[string]bool{
			`evt.is_open_write = true and fd.num = -1 and evt.res = EPERM and evt.rawres < 0`: true,
			`evt.is_open_read = true`: false,
		}},
		"root": {access(event.Key{Op: event.OpCreate, Path: "/x"}), map[string]bool{
			`fd.directory = / and fd.filename = x and evt.is_open_write = true`: true,
		}},
		"delete": {access(event.Key{Op: event.OpDelete, Path: "/x"}), map[string]bool{
			`evt.type = unlinkat and evt.arg.name = /x and evt.arg.path = /x`: true,
			`fd.name exists or fd.typechar exists`:                            false,
		}},
		"rename":     {access(event.Key{Op: event.OpRename, Path: "/x"}), map[string]bool{`evt.type = renameat and evt.arg.oldpath = /x`: true}},
		"link":       {access(event.Key{Op: event.OpLink, Path: "/x"}), map[string]bool{`evt.type in (link, linkat) and evt.arg.newpath = /x`: true}},
		"attributes": {access(event.Key{Op: event.OpAttributes, Path: "/x"}), map[string]bool{`evt.type = fchmodat and evt.arg.filename = /x`: true}},
		"connect": {onAddress(event.OpConnect, event.ProtocolTCP, "10.1.2.3", 443), map[string]bool{
			`evt.type = connect and fd.typechar = 4 and fd.type = ipv4 and fd.sockfamily = ip`: true,
			`fd.sip = 10.1.2.3 and fd.rip = "10.1.2.3" and fd.ip in (10.1.2.3)`:                true,
			`fd.sport = 443 and fd.rport in (80, 443) and fd.port >= 443`:                      true,
			`fd.lport exists or fd.lip exists or fd.cip exists`:                                false,
			`fd.net = 10.0.0.0/8 and fd.snet in ("172.16.0.0/12", "10.0.0.0/8")`:               true,
			`fd.net != 127.0.0.0/8 and fd.ip != 0.0.0.0 and not fd.rnet in (192.168.0.0/16)`:   true,
			`fd.net = 10.1.2.3/32 or fd.ip = 10.1.0.0/16`:                                      true,
			`fd.net in (::/0)`: false,
			`fd.l4proto = tcp and fd.name = "10.1.2.3:443"`:  true,
			`fd.connected = false or fd.directory exists`:    false,
			`fd.sip = val(fd.rip) and fd.sip != val(fd.ip)`:  false,
			`fd.sip = val(fd.rip)`:                           true,
			`fd.sip = anyof (1.1.1.1, 10.0.0.0/8)`:           true,
			`join(":", (fd.sip, fd.sport)) = "10.1.2.3:443"`: true,
		}},
		"mapped": {onAddress(event.OpConnect, event.ProtocolTCP, "::ffff:10.1.2.3", 443), map[string]bool{
			`fd.typechar = 4 and fd.sip = 10.1.2.3 and fd.net = 10.0.0.0/8 and fd.sip = ::ffff:10.1.2.3`: true,
		}},
		"send": {onAddress(event.OpSend, event.ProtocolUDP, "2001:db8::1", 53), map[string]bool{
			`evt.type in (sendto,sendmsg) and fd.l4proto != tcp and fd.connected=false and fd.name_changed=true`: true,
			`fd.typechar = 6 and fd.net = 2001:db8::/32 and fd.sip = 2001:DB8::1`:                                true,
		}},
		"bind": {onAddress(event.OpBind, event.ProtocolTCP, "0.0.0.0", 80), map[string]bool{
			`evt.type = bind and fd.sip = 0.0.0.0 and fd.lport = 80 and fd.sport = 80 and not fd.rport exists`: true,
		}},
		"any protocol": {onAddress(event.OpListen, 132, "0.0.0.0", 80), map[string]bool{`evt.type = listen and fd.l4proto = 132`: true}},
		"unix": {access(event.Key{Op: event.OpUnixConnect, Path: "/run/docker.sock"}), map[string]bool{
			`evt.type = connect and fd.typechar = u and fd.name = /run/docker.sock and fd.sockfamily = unix`: true,
			`fd.sip exists or fd.directory exists`: false,
		}},
		"ptrace": {access(event.Key{Op: event.OpPtrace, Value: event.PtraceAttach}), map[string]bool{`evt.type=ptrace and evt.arg.request contains PTRACE_ATTACH`: true}},
		"peek":   {access(event.Key{Op: event.OpPtrace, Value: event.PtraceRead}), map[string]bool{`evt.arg.request = PTRACE_PEEKDATA`: true}},
		"bpf":    {access(event.Key{Op: event.OpBPF, Value: 5}), map[string]bool{`evt.type = bpf and evt.arg.cmd = BPF_PROG_LOAD`: true}},
		"own words": {access(event.Key{Op: event.OpPtrace, Value: event.PtraceAttach | event.PtraceOther}), map[string]bool{
			`evt.value = "attach other workload" and evt.operation = ptrace and not evt.path exists`: true,
		}},
		"capability": {access(event.Key{Op: event.OpCapability, Value: 21}), map[string]bool{`evt.value in (CAP_SYS_PTRACE, CAP_SYS_ADMIN)`: true}},
		"library": {access(event.Key{Op: event.OpLibrary, Path: "/dev/shm/x.so"}), map[string]bool{
			`evt.path pmatch (/dev/shm) and evt.operation in (read, library) and evt.operation != read`: true,
			`evt.value exists or evt.operation != library or not evt.operation = library`:               false,
		}},
		"later":  {access(event.Key{Op: event.OpBPF, Value: 500}), map[string]bool{`evt.arg.cmd = 500`: true}},
		"packet": {access(event.Key{Op: event.OpSocket, Value: 17<<16 | 3<<8}), map[string]bool{`evt.type=socket and evt.arg.domain contains AF_PACKET`: true}},
		"family": {access(event.Key{Op: event.OpSocket, Value: 99 << 16}), map[string]bool{`evt.arg.domain = 99`: true}},
		"setuid": {access(event.Key{Op: event.OpSetuid}), map[string]bool{`evt.type = setuid and evt.arg.uid = 0`: true}},
		"userns": {access(event.Key{Op: event.OpUserns}), map[string]bool{`evt.type = unshare and not fd.name exists`: true}},
		"entered": {access(event.Key{Op: event.OpNamespace, Value: event.NamespaceEntered | 30}), map[string]bool{
			`evt.type = setns and evt.value = "enter net" and evt.operation = namespace and evt.type != unshare`: true,
		}},
		"made":      {access(event.Key{Op: event.OpNamespace, Value: 30}), map[string]bool{`evt.type = unshare and evt.value = "new net" and evt.type != setns`: true}},
		"rights":    {access(event.Key{Op: event.OpExecAsRoot, Path: "/bin/su"}), map[string]bool{`evt.operation = exec_as_root and evt.path = /bin/su and evt.type != execve`: true}},
		"module":    {access(event.Key{Op: event.OpModule}), map[string]bool{`evt.type in (init_module, finit_module)`: true}},
		"userfault": {access(event.Key{Op: event.OpUserfault}), map[string]bool{`evt.type = userfaultfd`: true}},
		"key":       {access(event.Key{Op: event.OpKeyctl}), map[string]bool{`evt.type in (keyctl, add_key) and evt.operation = keyctl and not evt.path exists`: true}},
	} {
		t.Run(name, func(t *testing.T) { holds(t, tc.env, tc.want) })
	}
}

func TestNumbersInWords(t *testing.T) {
	for family, want := range map[uint32]string{
		1: "AF_UNIX", 2: "AF_INET", 10: "AF_INET6", 15: "AF_KEY", 16: "AF_NETLINK", 17: "AF_PACKET", 29: "AF_CAN", 30: "AF_TIPC",
		38: "AF_ALG", 40: "AF_VSOCK", 44: "AF_XDP", 31: "31",
	} {
		if got := string(socketDomain(nil, family<<16|1)); got != want {
			t.Errorf("%d is %s", family, got)
		}
	}
	for v, want := range map[uint32]string{0: "BPF_MAP_CREATE", 28: "BPF_LINK_CREATE", 35: "BPF_PROG_BIND_MAP", 36: "36"} {
		if got := string(bpfCommand(nil, v)); got != want {
			t.Errorf("%d is %s", v, got)
		}
	}
}

// Outputs of every type of field.
func TestOutputTypes(t *testing.T) {
	e := onAddress(event.OpConnect, event.ProtocolTCP, "::ffff:10.0.0.1", 443)
	for output, want := range map[string]string{
		"%fd.sip:%fd.sport %fd.name %fd.l4proto %fd.net":            "10.0.0.1:443 10.0.0.1:443 tcp 10.0.0.1",
		"%proc.aname / %proc.aname[2] / %proc.aname[9]":             "nginx systemd / systemd / <NA>",
		"%fd.connected %evt.failed %evt.rawres %evt.res":            "<NA> false <NA> SUCCESS",
		`%join("-", (proc.name, fd.sport)) %toupper(proc.name)`:     "sh-443 SH",
		`%getopt(proc.args, "c:") %getopt(proc.args, "c:")[c]`:      "c id id",
		`*%proc.env[HOME] %container.mount.dest["/a b"] %user.name`: "<NA> <NA> <NA>",
	} {
		r := &Rule{}
		if m := testScope().setOutput(r, textOf(output)); m != nil {
			t.Errorf("%s: %+v", output, m)
			continue
		}
		if got := string(r.AppendOutput(nil, e)); got != want {
			t.Errorf("%s: got %s", output, got)
		}
		fields := map[string]any{}
		r.AddFields(fields, e)
		for _, f := range r.fields {
			text := "<NA>"
			if v := fields[f.name]; v != nil {
				text = fmt.Sprint(v)
			}
			if got := string(f.appendTo(nil, e)); got != text {
				t.Errorf("%s is %s in the output and %s as a field", f.name, got, text)
			}
		}
	}
}

// A rule that names its operations is asked about no others.
func TestOperationsIndex(t *testing.T) {
	for condition, want := range map[string][]event.Operation{
		`evt.operation = read and evt.path = /x`:          {event.OpRead},
		`evt.operation in (connect, send)`:                {event.OpConnect, event.OpSend},
		`evt.type = openat and evt.operation != read`:     {event.OpWrite, event.OpCreate},
		`evt.type = openat and not evt.operation = write`: {event.OpRead, event.OpCreate},
		`evt.operation = read and fd.sip = 10.0.0.1`:      nil,
	} {
		set, problems := load(t, ruleOf(condition))
		if bad := errorsIn(problems); len(bad) > 0 {
			t.Fatal(bad)
		}
		for o := event.OpLibrary; o < event.OpCount; o++ {
			asked := len(set.ForEvent(access(event.Key{Op: o}).Event)) == 1
			if asked != slices.Contains(want, o) {
				t.Errorf("%s: asked about %s: %t", condition, o, asked)
			}
		}
		if len(set.For(event.Exec)) != 0 {
			t.Errorf("%s: asked about executions", condition)
		}
	}
}

// Every operation has a name of its own in evt.type.
func TestOperationTypes(t *testing.T) {
	for o := event.OpExec; o < event.OpCount; o++ {
		if operationType(o) == event.Access.String() {
			t.Errorf("%s has no name", o)
		}
	}
}

// Many begins are looked up, and find what trying each of them does.
func TestBeginning(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	word := func() string {
		b := make([]byte, r.IntN(5))
		for i := range b {
			b[i] = "ab/\xff"[r.IntN(4)]
		}
		return string(b)
	}
	matches := 0
	for range 2000 {
		values := make([]string, r.IntN(6))
		for i := range values {
			values[i] = word() + "a"
		}
		begins := beginning(values)
		for range 20 {
			s := word()
			want := slices.ContainsFunc(values, func(v string) bool { return strings.HasPrefix(s, v) })
			if got := begins(s); got != want {
				t.Fatalf("%q begins with one of %q: got %t", s, values, got)
			}
			matches += index(want)
		}
	}
	if matches < 1000 {
		t.Errorf("only %d match", matches)
	}
	e := access(event.Key{Op: event.OpRead, Path: "/dev/sda1"})
	holds(t, e, map[string]bool{
		"fd.name startswith anyof (/dev/vd, /dev/sd, /dev/sdb)": true, "fd.name startswith anyof (/dev/sdb, /dev/sda2)": false,
		"fd.name startswith anyof ()": false, `fd.name startswith anyof ("")`: true, "container.name startswith anyof (a)": false,
		"not container.name startswith anyof (a)": true, "proc.aname startswith anyof (x, ngi)": true,
	})
}
