package agent

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/identity"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// Config of the agent, as its YAML file and the command line give it.
type Config struct {
	// Node names this machine in alerts and subjects. Default: the host name.
	Node string `yaml:"node"`
	// Scope confines the agent to these cgroup directories and what is below them. Empty: every
	// cgroup of the machine.
	Scope []string `yaml:"scope"`
	// Mode of a workload that has no stored baseline: off, learn, audit or enforce. Default: learn.
	Mode string `yaml:"mode"`
	// Dimensions that a new workload is learnt and held in: exec, library, file, unix, network,
	// privilege. Default: all of these that the kernel can hold. With syscalls, system calls are learnt too,
	// and not held; while a workload learns them, every call of the machine takes longer.
	Dimensions []string `yaml:"dimensions"`
	// DenyBudget is how many denials a minute a workload may meet in one dimension before that is only
	// audited, until its mode is set again. 0: there is no limit. Default: 60.
	DenyBudget *int `yaml:"deny_budget"`
	// CrashBudget is at how many crashes of a workload's main process within ten minutes, each of one that was
	// started after the last and was denied something, the dimensions of these denials are only audited, until
	// its mode is set again. 0: crashes do not count. Default: 3.
	CrashBudget *int `yaml:"crash_budget"`
	// Readiness says whether systemd, or the Kubernetes API server, is asked about a workload that was denied something: one
	// that was ready, and within two minutes of a denial is not any more for ten seconds, is only audited in the dimensions of
	// these denials, until its mode is set again. on or off. Default: on.
	Readiness string `yaml:"readiness"`
	// Strength of enforcement: auto, lsm, fmod_ret, signal; fanotify, with which executions wait for the agent; or cgroup,
	// which holds the network alone. Default: auto, the strongest there is but those two.
	Strength string `yaml:"strength"`
	// StateDir keeps baselines, the alert spool and what the next agent has to know. Default: /var/lib/plumbline.
	StateDir string `yaml:"state_dir"`
	// Socket answers status, baseline and mode. Default: /run/plumbline/agent.sock.
	Socket string `yaml:"socket"`
	// PinDir keeps enforcement in the kernel while no agent runs: a directory of its own in a BPF file
	// system, which is mounted there if it is none. Default: plumbline in /sys/fs/bpf, or in /run/plumbline-bpf if that
	// is no BPF file system; with a name after the socket if that is not the default one.
	PinDir string `yaml:"pin_dir"`
	// OnStop says what becomes of enforcement when the agent is told to stop: keep or release. When it is
	// killed or fails, enforcement stays. Default: keep.
	OnStop string `yaml:"on_stop"`
	// BreakGlass is a file that stops all enforcement at once while it is there, for an hour from its
	// modification time on, which may not be in the future.
	// Default: /etc/plumbline/break-glass.
	BreakGlass string `yaml:"break_glass"`
	// Unguarded names workloads that may be enforced although machines depend on them, for example
	// sshd.service.
	Unguarded []string `yaml:"unguarded"`
	// Protect names workloads, by shell patterns, in which rules that deny do so whatever the workload's own
	// mode is; "containers" stands for every container. Where the mode is enforce they always do, and in
	// guarded workloads never. Elsewhere such rules tell what they would have denied. Default: none.
	Protect []string `yaml:"protect"`
	// Responses says whether the agent acts on whole workloads where rules ask for it (action quarantine, drain, restart
	// or evict, with mode enforce), in workloads in which rules that deny do so: on or off. Default: off.
	Responses string `yaml:"responses"`
	// ResponsesPerNode is how many workloads of this node may meet a response within ten minutes. Default: 3.
	ResponsesPerNode int `yaml:"responses_per_node"`
	// QuarantineLimit is for how long a workload stays quarantined unless it is released, as 90s, 30m or 1h. 0: until it is
	// released. Default: 1h.
	QuarantineLimit string `yaml:"quarantine_limit"`
	// DBusSocket is the system bus, on which systemd is asked whether a unit is ready, and to stop or restart one.
	// Default: /run/dbus/system_bus_socket.
	DBusSocket string `yaml:"dbus_socket"`
	// Alerts is a file that also gets every alert as one JSON line; "-" is standard output.
	Alerts string `yaml:"alerts"`
	// AlertsFormat is how Alerts and AlertsSyslog get them: json, or text, Falco's line. Default: json.
	AlertsFormat string `yaml:"alerts_format"`
	// AlertsHTTP is a URL that gets every alert in Falco's JSON, one POST for each: falcosidekick's, say.
	// AlertsHTTPCA is a PEM file with the CA of an https one; without it, the system's are trusted.
	AlertsHTTP   string `yaml:"alerts_http"`
	AlertsHTTPCA string `yaml:"alerts_http_ca"`
	// AlertsSyslog gets every alert as a message of RFC 5424: unix:///dev/log, udp://HOST:PORT or
	// tcp://HOST:PORT.
	AlertsSyslog string `yaml:"alerts_syslog"`
	// FalcoSocket is a Unix socket on which clients of Falco's gRPC outputs read our alerts.
	FalcoSocket string `yaml:"falco_socket"`
	// Falco says where the alerts of a Falco on this node are taken from.
	Falco FalcoInput `yaml:"falco"`
	// Rules are files or directories of rules beside the built-in ones. When they change, they are read again.
	Rules []string `yaml:"rules"`
	// RuleMatching is how many rules may raise an alert for one event: all, or first as Falco does it, in the
	// order of the files. The kernel's own alerts and rules with a window are beside that. Default: all.
	RuleMatching string `yaml:"rule_matching"`
	// Priority is Falco's: rules that are less severe are not in force, but for those that deny. Default: debug, all.
	Priority string `yaml:"priority"`
	// NameInterval is after what time the names of hosts in rules (fd.sip.name) are asked for again, from 10s to 24h. 0:
	// never, no address has a name. As long as no rule has a name, nothing is asked. Default: 1m.
	NameInterval string `yaml:"name_interval"`
	// NameServer is asked instead of those of /etc/resolv.conf: ADDRESS:PORT. /etc/hosts goes before both.
	NameServer string `yaml:"name_server"`
	// ClockError is by how much the clock may be wrong, as the kernel estimates it, before that is told; so is that it is not
	// synchronised. 0: nobody asks. Default: 100ms.
	ClockError string `yaml:"clock_error"`
	// TrustDomain of the SPIFFE IDs made by template. Default: plumbline.local.
	TrustDomain string `yaml:"trust_domain"`
	// BTF is a file with the kernel's types, for kernels without /sys/kernel/btf/vmlinux.
	BTF string `yaml:"btf"`
	// RingBytes is the size of the ring buffer, a power of two from 64 KiB to 256 MiB. Default: 4 MiB.
	RingBytes int `yaml:"ring_bytes"`
	// BaselinePaths is how many executables, libraries, files and named sockets all baselines of this node may hold in
	// the kernel together, from 1024 to 16777216. Each takes 16 bytes there, and 352 more once it is held. Default: 131072.
	BaselinePaths int `yaml:"baseline_paths"`
	// ControlPlane is where alerts go. Without a URL the agent works alone.
	ControlPlane ControlPlane `yaml:"control_plane"`
	// Metrics is the address of the /metrics endpoint. Empty: none.
	Metrics string `yaml:"metrics"`
	// SpoolBytes bounds the alert spool on disk. Default: 64 MiB.
	SpoolBytes int64 `yaml:"spool_bytes"`

	Version string       `yaml:"-"`
	Log     *slog.Logger `yaml:"-"`
	// Reload makes the agent read its rules again. nil: no signal does.
	Reload <-chan os.Signal `yaml:"-"`
}

// ControlPlane says how to reach it.
type ControlPlane struct {
	URL          string `yaml:"url"` // nats://host:port
	PasswordFile string `yaml:"password_file"`
	Tenant       string `yaml:"tenant"`
	Cluster      string `yaml:"cluster"`
}

// FalcoInput says where the alerts of a Falco on this node are taken from. They go the way of our own.
type FalcoInput struct {
	// HTTPListen is the address for Falco's http_output. Without a host it is the loopback's.
	HTTPListen string `yaml:"http_listen"`
	// Socket is that of Falco's gRPC outputs, which Falco has until version 0.43.
	Socket string `yaml:"socket"`
	// Host and Port are where these outputs are on a network, with mutual TLS: the certificate, key and CA are files
	// in PEM form, read anew for each connection.
	Host     string `yaml:"host"`
	Port     uint16 `yaml:"port"`
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	CAFile   string `yaml:"ca_file"`
}

// DefaultSocket answers where the configuration names no other.
const DefaultSocket = "/run/plumbline/agent.sock"

// DefaultBreakGlass is the break-glass file where the configuration names no other.
const DefaultBreakGlass = "/etc/plumbline/break-glass"

// Complete fills in defaults and checks every field.
func (c *Config) Complete() error {
	if c.Node == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find node name: %w", err)
		}
		c.Node = name
	}
	for value, fallback := range map[*string]string{
		&c.Mode: "learn", &c.Strength: "auto", &c.RuleMatching: rule.All.String(), &c.OnStop: onStopKeep,
		&c.AlertsFormat: alert.JSON.String(), &c.Priority: "debug", &c.BreakGlass: DefaultBreakGlass, &c.TrustDomain: "plumbline.local",
		&c.Responses: off, &c.Readiness: on, &c.QuarantineLimit: "1h", &c.NameInterval: "1m", &c.ClockError: "100ms", &c.DBusSocket: "/run/dbus/system_bus_socket",
		&c.ControlPlane.Tenant: "default", &c.ControlPlane.Cluster: "default",
	} {
		if *value == "" {
			*value = fallback
		}
	}
	if err := c.completePlaces(); err != nil {
		return err
	}
	if c.DenyBudget == nil {
		c.DenyBudget = new(int)
		*c.DenyBudget = 60
	}
	if c.CrashBudget == nil {
		c.CrashBudget = new(int)
		*c.CrashBudget = 3
	}
	if c.ResponsesPerNode == 0 {
		c.ResponsesPerNode = 3
	}
	if c.RingBytes == 0 {
		c.RingBytes = 4 << 20
	}
	if c.BaselinePaths == 0 {
		c.BaselinePaths = enforce.DefaultPathEntries
	}
	if c.SpoolBytes == 0 {
		c.SpoolBytes = 64 << 20
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c.check()
}

// completePlaces fills in where the agent is found on this machine.
func (c *Config) completePlaces() error {
	if c.StateDir == "" {
		c.StateDir = "/var/lib/plumbline"
	}
	if c.Socket == "" {
		c.Socket = DefaultSocket
	}
	socket, err := filepath.Abs(c.Socket)
	if err != nil {
		return fmt.Errorf("check socket %s: %w", c.Socket, err)
	}
	c.Socket = socket
	if c.PinDir == "" {
		c.PinDir = DefaultPinDir(c.Socket)
	}
	if c.PinDir, err = filepath.Abs(c.PinDir); err != nil {
		return fmt.Errorf("check pin_dir %s: %w", c.PinDir, err)
	}
	return nil
}

func (c *Config) check() error {
	if _, err := event.ParseMode(c.Mode); err != nil {
		return fmt.Errorf("check mode: %w", err)
	}
	if _, err := enforce.ParseStrength(c.Strength); err != nil {
		return fmt.Errorf("check strength: %w", err)
	}
	if _, err := rule.ParseMatching(c.RuleMatching); err != nil {
		return fmt.Errorf("check rule_matching: %w", err)
	}
	if _, err := alert.ParseSeverity(c.Priority); err != nil {
		return fmt.Errorf("check priority: %w", err)
	}
	if c.OnStop != onStopKeep && c.OnStop != onStopRelease {
		return fmt.Errorf("check on_stop: unknown %q: want %s or %s", c.OnStop, onStopKeep, onStopRelease)
	}
	for _, pattern := range c.Protect {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("check protect: %q: %w", pattern, err)
		}
	}
	for _, name := range c.Dimensions {
		if _, err := event.ParseDimension(name); err != nil {
			return fmt.Errorf("check dimensions: %w", err)
		}
	}
	if *c.DenyBudget < 0 {
		return fmt.Errorf("check deny_budget: %d is negative", *c.DenyBudget)
	}
	if *c.CrashBudget < 0 {
		return fmt.Errorf("check crash_budget: %d is negative", *c.CrashBudget)
	}
	if n := c.RingBytes; n < 64<<10 || n > 256<<20 || n&(n-1) != 0 {
		return fmt.Errorf("check ring_bytes: %d is not a power of two from 65536 to 268435456", n)
	}
	if n := c.BaselinePaths; n < 1024 || n > 1<<24 {
		return fmt.Errorf("check baseline_paths: %d is not from 1024 to 16777216", n)
	}
	if c.SpoolBytes < 1<<20 {
		return fmt.Errorf("check spool_bytes: %d is less than 1 MiB", c.SpoolBytes)
	}
	if err := c.checkResponses(); err != nil {
		return err
	}
	if err := c.checkClock(); err != nil {
		return err
	}
	if err := c.checkNames(); err != nil {
		return err
	}
	if err := c.checkOutputs(); err != nil {
		return err
	}
	if err := c.checkFalco(); err != nil {
		return err
	}
	for i, dir := range c.Scope {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return fmt.Errorf("check scope %q: %w", dir, err)
		}
		c.Scope[i] = abs
		if _, err := os.Stat(filepath.Join(abs, "cgroup.procs")); err != nil {
			return fmt.Errorf("check scope %s: not a cgroup directory: it has no cgroup.procs", dir)
		}
	}
	return c.checkReferences()
}

// checkReferences checks what names something outside the agent.
func (c *Config) checkReferences() error {
	if _, err := identity.NewTemplate(c.TrustDomain, identity.DefaultTemplate, c.Node, c.ControlPlane.Cluster); err != nil {
		return err
	}
	for _, path := range c.Rules {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("check rules: %w", err)
		}
	}
	if c.Metrics != "" {
		_, port, err := net.SplitHostPort(c.Metrics)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil {
			return fmt.Errorf("check metrics %q: %w", c.Metrics, err)
		}
	}
	if cp := c.ControlPlane; cp.URL != "" {
		if u, err := url.Parse(cp.URL); err != nil || u.Scheme != "nats" || u.Host == "" {
			return fmt.Errorf("check control plane %q: want nats://HOST:PORT", cp.URL)
		}
		if cp.PasswordFile == "" {
			return fmt.Errorf("check control plane %s: it needs a password file too", cp.URL)
		}
	}
	return nil
}

// dimensions of the configuration, as a set; it has been checked.
func (c *Config) dimensions() event.Dimensions {
	if len(c.Dimensions) == 0 {
		return event.AllDimensions
	}
	var dims event.Dimensions
	for _, name := range c.Dimensions {
		if d, err := event.ParseDimension(name); err == nil {
			dims = dims.With(d)
		}
	}
	return dims
}
