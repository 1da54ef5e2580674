package agent

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// What follows the socket can be asked again later: nothing that a rule sees is lost on the way.
func TestEventsCanBeReplayed(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	w := &detect.Subject{Name: "shop", Kind: "container", ContainerID: "c1", SPIFFEID: "spiffe://d/shop"}
	for name, ev := range map[string]event.Event{
		"fork": {Kind: event.Fork, Fork: event.ForkInfo{Child: 8, ChildStart: 9}},
		"exec": {Kind: event.Exec, Exec: event.ExecInfo{
			PPID: 1, Start: 2, UID: 3, Inode: 4, Device: 5, Path: "/a", Filename: "a", Args: "a b", Cwd: "/", Comm: "a", Truncated: true, Partial: true, Unlinked: true, Detached: true, Script: true, Upper: true, StdioInet: true, CwdDetached: true, Changed: 6, Modified: 7,
			Membership: event.Membership{VPID: 8, Session: 9, Group: 10, TTY: 11}, Capabilities: event.Capabilities{Permitted: 1 << 40, Effective: 12, Inheritable: 13, Known: true},
		}},
		"denied": {Kind: event.ExecCheck, Verdict: event.Deny, Hook: event.HookLSM, Exec: event.ExecInfo{Path: "/a"}},
		"access": {Kind: event.Access, Verdict: event.Audit, Hook: event.HookCgroup, Access: event.AccessInfo{
			Key: event.Key{Op: event.OpConnect, Protocol: event.ProtocolTCP, Address: netip.MustParsePrefix("192.0.2.0/24"), Port: 443}, Repeated: 3, Known: true,
			Capabilities: event.Capabilities{Effective: 5, Known: true}, Detailed: true, OpenFlags: 6, Mode: 7, Said: "../x", ByAncestor: true, HostNamespace: true, Local: netip.MustParseAddr("192.0.2.1"), LocalPort: 8, Call: "dup2", Descriptor: 9,
		}},
		"exit":  {Kind: event.Exit, Exit: event.ExitInfo{Start: 1, Code: -1, Signal: 9}},
		"pause": {Kind: event.Pause, Pause: event.PauseInfo{Reason: 2, GC: true, Stopping: 17, Total: 1_234_567_891}},
		"handshake": {Kind: event.Handshake, Hook: event.HookUprobe, Handshake: event.HandshakeInfo{
			Library: event.LibraryOpenSSL, Role: event.Server, OK: true, Resumed: true, Version: 0x0303, Suite: 0xc0b4, Group: 29, Alert: -1,
			VerifyResult: 20, Reason: 7, Duration: 1_234_567, ServerName: "s", ALPN: "h2", PeerFingerprint: [32]byte{1}, HasPeer: true,
			PeerSPIFFEID: "spiffe://d/p", PeerNotAfter: 1_800_000_000,
		}},
		"refused handshake": {Kind: event.Handshake, Handshake: event.HandshakeInfo{Library: event.LibraryGo, Role: event.Client, Suite: 0x1301, Alert: 0}},
		"old handshake":     {Kind: event.Handshake, Handshake: event.HandshakeInfo{Version: 0x0300, Suite: 5, Alert: 40}},
		"cgroup":            {Kind: event.Cgroup, Cgroup: event.CgroupInfo{Path: "/shop"}},
	} {
		t.Run(name, func(t *testing.T) {
			ev.Tgid, ev.Tid = 7, 7
			ev.Process = event.Process{
				PID: 7, PPID: 6, Start: 5, UID: 4, Comm: "c", Path: "/p", Args: "p", Cwd: "/", Parent: "/q", Lineage: []string{"/q", "/r"}, Partial: true,
				Membership: event.Membership{VPID: 1, Session: 2, Group: 3, TTY: 4}, Leader: "l", Ancestors: []event.Ancestor{{Start: 1, Comm: "q", Args: "q -x"}},
			}
			line, err := json.Marshal(viewOf(&ev, w, at))
			if err != nil {
				t.Fatal(err)
			}
			var v View // the client reads it and writes it anew
			if err := json.Unmarshal(line, &v); err != nil {
				t.Fatal(err)
			}
			if line, err = json.Marshal(v); err != nil {
				t.Fatal(err)
			}
			got, who, when, err := rule.ParseEvent(line)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if !reflect.DeepEqual(*got, ev) {
				t.Errorf("%s\ngot  %+v\nwant %+v", line, *got, ev)
			}
			if (who != rule.Workload{Name: w.Name, Kind: w.Kind, ContainerID: w.ContainerID, SPIFFEID: w.SPIFFEID}) || !when.Equal(at) {
				t.Errorf("%+v at %v", who, when)
			}
		})
	}
}
