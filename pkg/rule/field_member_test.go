package rule

import (
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// What ancestors were called with, under Falco's names.
func TestAncestorFields(t *testing.T) {
	e := shell()
	holds(t, e, map[string]bool{
		`proc.pexe exists or proc.pcmdline exists or proc.aexe exists or proc.acmdline exists or proc.ppid.duration exists`: false,
		`proc.aexe[0] = sh and proc.acmdline[0] = "sh -c id" and proc.aargs[0] = "-c id"`:                                   true,
	})
	e.Event.Process.Lineage = []string{"/usr/bin/java", "/usr/sbin/sshd", "/usr/lib/systemd/systemd"}
	e.Event.Process.Ancestors = []event.Ancestor{
		{Start: 100, Comm: "java", Args: "/opt/jdk/bin/java -jar x.jar"}, {Comm: "sshd", Args: "sshd:"}, {},
	}
	e.Event.Ktime = 3_000_000_000
	e.Event.Exec.Start = 250
	holds(t, e, map[string]bool{
		`proc.pexe = /opt/jdk/bin/java and proc.pexe endswith java and proc.pcmdline = "java -jar x.jar"`: true,
		`proc.aexe[1] = val(proc.pexe) and proc.aexe[2] = "sshd:" and not proc.aexe[3] exists`:            true,
		`proc.aexe endswith sshd: and proc.acmdline contains x.jar and proc.acmdline[2] = sshd`:           true,
		`proc.aargs[1] = "-jar x.jar" and proc.aargs[2] = ""`:                                             true,
		`proc.aname = systemd and proc.aname[3] = systemd`:                                                true,
		`proc.ppid.duration = 2000000000 and proc.duration = 500000000`:                                   true,
		`proc.ppid.ts = 999999998000000000 and proc.pid.ts = 999999999500000000`:                          true,
	})
	e.Event.Process.Ancestors[0].Comm = ""
	holds(t, e, map[string]bool{`proc.pcmdline = "java -jar x.jar"`: true})
}

func TestMemberFields(t *testing.T) {
	e := shell()
	const none = `proc.tty >= 0 or proc.vpid exists or proc.is_vpgid_leader exists or proc.sname exists or proc.pgid exists or
		thread.cap_permitted exists or proc.exe_ino.ctime exists or proc.exe_ino.mtime exists or proc.is_exe_upper_layer = true`
	holds(t, e, map[string]bool{none: false})
	e.Event.Process.Leader = "bash"
	x := &e.Event.Exec
	x.Membership = event.Membership{VPID: 1, Session: 5, Group: 7, TTY: 0x8800}
	x.Capabilities = event.Capabilities{Permitted: 1<<21 | 1, Effective: 1 << 62, Known: true}
	x.Changed, x.Modified, x.Upper, x.Start = 999_999_990_000_000_000, 5, true, 100
	e.Event.Ktime = 2_000_000_000
	holds(t, e, map[string]bool{
		`proc.tty = 34816 and proc.tty != 0 and proc.vpid = 1 and proc.pgid = 7`:                    true,
		`proc.is_vpgid_leader = true and proc.is_pgid_leader = true and proc.is_sid_leader = false`: true,
		`proc.sname = bash`: true,
		`thread.cap_permitted = "CAP_CHOWN CAP_SYS_ADMIN" and thread.cap_effective = "62"`:         true,
		`thread.cap_permitted contains CAP_SYS_ADMIN and thread.cap_permitted icontains sys_admin`: true,
		`thread.cap_inheritable = ""`:                                                                         true,
		`proc.exe_ino.ctime = 999999990000000000 and proc.exe_ino.mtime = 5`:                                  true,
		`proc.exe_ino.ctime_duration_proc_start = 9000000000 and proc.is_exe_upper_layer = true`:              true,
		`thread.cap_permitted contains CAP_SYS_PTRACE or proc.exe_ino.ctime_duration_proc_start > 9000000000`: false,
		`proc.is_exe_upper_layer in (false) or proc.tty in (0, 1) or not proc.sname in (bash)`:                false,
	})
	x.Membership.Namespace, e.Workload.ContainerID = 150, "c1"
	holds(t, e, map[string]bool{
		`container.start_ts = 999999999500000000 and container.duration = 500000000`: true,
		`proc.exe_ino.ctime_duration_pidns_start exists`:                             false,
	})
	x.Changed = 999_999_999_500_000_001
	holds(t, e, map[string]bool{`proc.exe_ino.ctime_duration_pidns_start = 1`: true})
	x.Membership.VPID = 7 // in the host's namespace
	holds(t, e, map[string]bool{`container.start_ts exists or container.duration exists`: false})
	holds(t, e, map[string]bool{`proc.exe_ino.ctime_duration_proc_start exists`: false})

	open := access(event.Key{Op: event.OpRead, Path: "/x"})
	holds(t, open, map[string]bool{none: false})
	open.Event.Process.Membership = event.Membership{VPID: 1}
	open.Event.Access.Capabilities = event.Capabilities{Effective: 2, Known: true}
	holds(t, open, map[string]bool{
		`proc.tty = 0 and proc.vpid = 1 and proc.is_vpgid_leader = false`:       true,
		`thread.cap_effective = CAP_DAC_OVERRIDE and thread.cap_permitted = ""`: true,
	})
}
