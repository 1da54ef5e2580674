package agent

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

// Asked for are the names of the rules in force, and with name_interval 0 none.
func TestNames(t *testing.T) {
	named, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(ruleOn("named", "evt.type = connect and fd.sip.name in (a.org, 127.0.0.7)"))})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var log strings.Builder
	a := &Agent{cfg: Config{NameInterval: "1m", Log: slog.New(slog.NewTextHandler(&log, nil))}}
	a.names = openNames(&a.cfg)
	a.wantNames(builtInRules(t))
	if s := a.namesStatus(nil); s != nil {
		t.Errorf("our rules name hosts: %+v", s)
	}
	a.wantNames(named)
	if s := a.namesStatus(named); s == nil || *s != (NamesStatus{Wanted: 2}) {
		t.Errorf("%+v", s)
	}
	if got := a.names.Of(netip.MustParseAddr("127.0.0.7")); got != nil || log.Len() > 0 {
		t.Errorf("%q before anybody was asked, log %s", got, log.String())
	}
	lost := map[string]uint64{}
	a.countNames(lost)
	if len(lost) != 3 {
		t.Errorf("%v", lost)
	}

	a.cfg.NameInterval = "0"
	a.names = openNames(&a.cfg)
	a.wantNames(named)
	if s := a.namesStatus(named); s == nil || *s != (NamesStatus{Wanted: 2, Off: true}) || !strings.Contains(log.String(), "name_interval is 0") {
		t.Errorf("%+v, log %s", s, log.String())
	}
	if s := a.namesStatus(builtInRules(t)); s != nil {
		t.Errorf("%+v", s)
	}
	clear(lost)
	if a.countNames(lost); len(lost) != 0 {
		t.Errorf("%v", lost)
	}
}
