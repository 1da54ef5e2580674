package agent

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/plumbline-io/plumbline/pkg/hostname"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// NamesStatus tells of the names of hosts that rules ask for.
type NamesStatus struct {
	Wanted    int    `json:"wanted"`
	Known     int    `json:"known"`                // those of them that have an address
	LastError string `json:"last_error,omitempty"` // of a question that is not answered
	Off       bool   `json:"off,omitempty"`        // they are not asked for
}

// leastNameInterval keeps a mistyped interval from being a flood.
const leastNameInterval = 10 * time.Second

func (c *Config) checkNames() error {
	every, err := time.ParseDuration(c.NameInterval)
	if err != nil || every != 0 && every < leastNameInterval || every > 24*time.Hour {
		return fmt.Errorf("check name_interval: %q is no time from 10s to 24h, and not 0", c.NameInterval)
	}
	if c.NameServer == "" {
		return nil
	}
	if at, err := netip.ParseAddrPort(c.NameServer); err != nil || at.Port() == 0 {
		return fmt.Errorf("check name_server: %q is no ADDRESS:PORT", c.NameServer)
	}
	return nil
}

// nameInterval is that of the configuration; it has been checked. 0: names are not asked for.
func (c *Config) nameInterval() time.Duration {
	every, _ := time.ParseDuration(c.NameInterval)
	return every
}

// openNames makes who asks for the names of rules; nil if the configuration does not want that.
func openNames(cfg *Config) *hostname.Resolver {
	if cfg.nameInterval() == 0 {
		return nil
	}
	return hostname.New(hostname.Config{Lookup: hostname.System(cfg.NameServer), Interval: cfg.nameInterval(), Log: cfg.Log})
}

// wantNames asks for the names of the rules in force, and for no others.
func (a *Agent) wantNames(set *rule.Ruleset) {
	hosts := set.Hosts()
	if a.names == nil && len(hosts) > 0 {
		a.cfg.Log.Warn("rules name hosts, and name_interval is 0: no address has a name", "names", len(hosts))
	}
	if a.names != nil {
		a.names.Want(hosts)
	}
}

// namesStatus is nil if no rule names a host.
func (a *Agent) namesStatus(set *rule.Ruleset) *NamesStatus {
	if a.names == nil {
		n := len(set.Hosts())
		if n == 0 {
			return nil
		}
		return &NamesStatus{Wanted: n, Off: true}
	}
	s := a.names.Stats()
	if s.Names == 0 {
		return nil
	}
	return &NamesStatus{Wanted: s.Names, Known: s.Known, LastError: s.LastError}
}

// countNames adds what was not done to lost.
func (a *Agent) countNames(lost map[string]uint64) {
	if a.names == nil {
		return
	}
	s := a.names.Stats()
	lost["name_failed"], lost["name_left_out"], lost["name_crowded"] = s.Failed, s.LeftOut, s.Crowded
}
