package rule

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// taken is a connection of 192.0.2.9:40000 that a server at 10.0.0.1:443 took.
func taken() *Env {
	e := onAddress(event.OpAccept, event.ProtocolTCP, "192.0.2.9", 443)
	e.Event.Access.Local, e.Event.Access.ClientPort = netip.MustParseAddr("10.0.0.1"), 40000
	return e
}

// Of a connection that a server takes, both ends are known.
func TestAccept(t *testing.T) {
	e := taken()
	e.Names = table(t, map[string][]string{"scanner.example.org": {"192.0.2.9"}, "shop.example.org": {"10.0.0.1"}})
	holds(t, e, map[string]bool{
		`evt.type = accept and evt.type in (accept4) and evt.operation = accept`:           true,
		`fd.cip = 192.0.2.9 and fd.cnet = 192.0.2.0/24 and fd.cport = 40000`:               true,
		`fd.sip = 10.0.0.1 and fd.snet in (10.0.0.0/8) and fd.sport = 443`:                 true,
		`fd.rip = 192.0.2.9 and fd.rport = 40000 and fd.lip = 10.0.0.1 and fd.lport = 443`: true,
		`fd.rnet = 192.0.2.0/24 and fd.lnet = 10.0.0.0/8`:                                  true,
		`fd.cip.name = scanner.example.org and fd.rip.name = scanner.example.org`:          true,
		`fd.sip.name = shop.example.org and fd.lip.name in (shop.example.org)`:             true,
		`fd.ip = 192.0.2.9 and fd.ip = 10.0.0.1 and fd.net = 10.0.0.0/8`:                   true,
		`fd.ip != 192.0.2.9 or fd.ip != 10.0.0.1 or fd.net != 10.0.0.0/8`:                  false,
		`fd.ip != 127.0.0.1 and fd.net != 172.16.0.0/12`:                                   true,
		`fd.port = 443 and fd.port = 40000 and fd.port in (443, 80) and fd.port < 1024`:    true,
		`fd.port != 443 or fd.port != 40000 or fd.port > 40000`:                            false,
		`fd.port != 80`: true,
		`fd.name = "192.0.2.9:40000->10.0.0.1:443" and fd.type = ipv4`:                        true,
		`fd.l4proto = tcp and fd.typechar = 4 and fd.sockfamily = ip and fd.connected = true`: true,
		`evt.rawres >= 0 and fd.num >= 0 and evt.res = SUCCESS`:                               true,
		`evt.in_baseline exists or fd.name_changed exists or evt.path exists`:                 false,
	})
	e.Event.Access.Local, e.Event.Access.ClientPort = netip.Addr{}, 0 // as of an older recording
	holds(t, e, map[string]bool{
		`fd.sip exists or fd.lip exists or fd.cport exists or fd.rport exists`:       false,
		`fd.ip = 192.0.2.9 and fd.port = 443 and fd.ip != 10.0.0.1 and fd.port != 1`: true,
	})
	holds(t, onAddress(event.OpConnect, event.ProtocolTCP, "192.0.2.9", 443), map[string]bool{
		`fd.cip exists or fd.cport exists or fd.cnet exists or fd.cip.name exists or fd.lip exists`: false,
		`fd.ip = 192.0.2.9 and fd.ip != 10.0.0.1 and fd.port = 443 and fd.port != 80`:               true,
		`fd.port != 443 or fd.ip != 192.0.2.9`:                                                      false,
	})
}

// The kernel compares the client's address and the server's port, and passes what else is asked.
func TestAcceptPushdown(t *testing.T) {
	accept := Interest{Kind: event.Access, Op: event.OpAccept, Where: Anywhere}
	client, port := accept, accept
	client.Networks, client.Exact = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, true
	port.Ports, port.Exact = []PortRange{{22, 22}}, true
	for condition, want := range map[string]Interest{
		`fd.cnet = 10.0.0.0/8`: client, `fd.rip in (10.0.0.0/8)`: client, `fd.sport = 22`: port, `fd.lport = 22`: port,
		`fd.sip = 10.0.0.1`: accept, `fd.lnet = 10.0.0.0/8`: accept, `fd.ip = 10.0.0.1`: accept, `fd.net = 10.0.0.0/8`: accept,
		`fd.port = 22`: accept, `fd.cport = 22`: accept, `fd.rport < 1024`: accept, `fd.cip.name = a.org`: accept,
	} {
		set, problems := load(t, ruleOf("evt.type = accept and "+condition))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if got := set.Plan(); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s: got %+v, want %+v", condition, got, want)
		}
	}
}

// made is descriptor 1, made of a socket between 10.0.0.7:40000 and 192.0.2.9:4444 by dup2.
func made() *Env {
	e := onAddress(event.OpDup, event.ProtocolTCP, "192.0.2.9", 4444)
	a := &e.Event.Access
	a.Local, a.LocalPort, a.Call, a.Descriptor = netip.MustParseAddr("10.0.0.7"), 40000, "dup2", 1
	return e
}

// Of a descriptor of a socket, the call, its number and both ends are known, and not which of them is the client.
func TestDup(t *testing.T) {
	e := made()
	holds(t, e, map[string]bool{
		`evt.type = dup2 and evt.type in (dup, dup2) and evt.operation = dup`:                         true,
		`evt.type = dup or evt.type in (dup, dup3) or evt.type != dup2`:                               false,
		`evt.rawres = 1 and evt.rawres in (0, 1, 2) and fd.num = 1 and evt.res = SUCCESS`:             true,
		`fd.type = ipv4 and fd.typechar = 4 and fd.sockfamily = ip and fd.l4proto = tcp`:              true,
		`fd.rip = 192.0.2.9 and fd.rport = 4444 and fd.rnet = 192.0.2.0/24`:                           true,
		`fd.lip = 10.0.0.7 and fd.lport = 40000 and fd.lnet = 10.0.0.0/8`:                             true,
		`fd.ip = 192.0.2.9 and fd.ip = 10.0.0.7 and fd.port = 4444 and fd.port = 40000`:               true,
		`fd.ip != 192.0.2.9 or fd.port != 40000`:                                                      false,
		`fd.name = "10.0.0.7:40000->192.0.2.9:4444"`:                                                  true,
		`fd.sip exists or fd.cip exists or fd.sport exists or fd.cport exists or fd.connected exists`: false,
		`evt.in_baseline exists`: false,
	})
	a := &e.Event.Access
	a.Key, a.Local, a.LocalPort, a.Call = event.Key{Op: event.OpDup}, netip.Addr{}, 0, "dup3"
	holds(t, e, map[string]bool{
		`evt.type = dup3 and fd.type = unix and fd.typechar = u and fd.sockfamily = unix`:                              true,
		`fd.rip exists or fd.rport exists or fd.lport exists or fd.port exists or fd.name exists or fd.l4proto exists`: false,
	})
	peer := Interest{Kind: event.Access, Op: event.OpDup, Where: Anywhere}
	any, net := peer, peer
	peer.Ports = []PortRange{{22, 22}}
	net.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for condition, want := range map[string]Interest{
		`fd.rport = 22`: peer, `fd.rnet = 10.0.0.0/8`: net, `fd.lport = 22`: any, `fd.port = 22`: any, `fd.ip = 10.0.0.1`: any, `fd.num = 1`: any,
	} {
		set, problems := load(t, ruleOf("evt.type = dup2 and "+condition))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if got := set.Plan(); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s: got %+v, want %+v", condition, got, want)
		}
	}
	set, _ := load(t, ruleOf("evt.operation = dup and fd.rport = 22"))
	peer.Exact = true
	if got := set.Plan(); len(got) != 1 || !reflect.DeepEqual(got[0], peer) {
		t.Errorf("got %+v, want %+v", got, peer)
	}
}

// Nothing can be stopped when a connection is there. A rule that denies by an address means what else is done with it.
func TestAcceptIsNotStopped(t *testing.T) {
	_, problems := load(t, ruleOf("evt.type in (accept, accept4) and fd.cip = 10.0.0.1")+"  action: deny\n")
	if bad := errorsIn(problems); len(bad) != 1 || !strings.Contains(bad[0].Error(), "nothing can be stopped at accept4") {
		t.Errorf("%v", problems)
	}
	set, problems := load(t, ruleOf("fd.snet = 10.0.0.0/8")+"  action: deny\n")
	if bad := errorsIn(problems); len(bad) > 0 {
		t.Fatal(bad)
	}
	for _, i := range set.Plan() {
		if i.Op.OnlyTold() {
			t.Errorf("%+v", i)
		}
	}
	if len(set.Match(taken(), All, nil)) != 0 || len(set.Match(made(), All, nil)) != 0 {
		t.Error("asked about a connection that is there")
	}
}
