package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/agent"
)

func newRun() *cobra.Command {
	var f configFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the node daemon until SIGTERM",
		Long: `run is the node daemon. It works until SIGTERM or SIGINT.

Rules are read again when their files change, at SIGHUP, and by 'plumbline-agent rules reload': all
of them or, if one is wrong, none. Then those in force stay, and 'plumbline-agent status' says what
is wrong, and where.

By default nothing is denied but what containers do to the agent itself. With --mode enforce, all that a workload
without a baseline does is denied until its --deny-budget is spent: for tests and golden images only.

Some keys of the configuration file have no flag, such as protect (workloads in which rules that deny do so in
every mode, by shell patterns), unguarded (workloads that may be enforced although machines depend on them),
responses, break_glass and sizes. All keys, with their defaults and ranges, stand in the agent.yaml that is
shipped (deploy/rpm/agent.yaml).`,
		Example: `  # the whole machine, alerts as JSON lines on standard output
  plumbline-agent run --alerts -

  # only one cgroup and what is below it, alerts to the control plane
  plumbline-agent run --scope /sys/fs/cgroup/shop.slice \
      --control-plane nats://10.0.0.5:4222 --password-file /etc/plumbline/agent.password

  # beside a Falco: its alerts go to the control plane too, and all of them to falcosidekick
  plumbline-agent run --config /etc/plumbline/agent.yaml \
      --falco-http-listen :2802 --alerts-http http://127.0.0.1:2801/`,
		Args: cobra.NoArgs,
		RunE: work(func(cmd *cobra.Command, _ []string) error {
			c, err := f.load(cmd)
			if err != nil {
				return err
			}
			return runAgent(cmd, c)
		}),
	}
	f.register(cmd)
	fs := cmd.Flags()
	fs.StringVar(&f.c.Mode, "mode", "", "of a workload without a baseline: off, learn, audit, or enforce, which denies all that it does (default learn)")
	cli.Choice(cmd, "mode", modes()...)
	fs.StringVar(&f.c.Node, "node", "", "`NAME` of this machine (default: host name)")
	fs.StringVar(&f.c.StateDir, "state-dir", "", "`DIR` for baselines and the alert spool (default /var/lib/plumbline)")
	fs.StringVar(&f.c.Socket, "socket", "", "Unix socket `FILE` on which the other verbs ask, root's alone (default "+defaultSocket+")")
	fs.StringVar(&f.c.PinDir, "pin-dir", "", "`DIR` of its own in a BPF file system that keeps enforcement while no agent runs (default /sys/fs/bpf/plumbline)")
	fs.StringVar(&f.c.OnStop, "on-stop", "", "keep or release: what becomes of enforcement when the agent is told to stop; one that fails keeps it (default keep)")
	fs.IntVar(&f.denyBudget, "deny-budget", 60, "denials a minute in one dimension of a workload before it is only audited, 0 or more; 0: no limit")
	fs.IntVar(&f.crashBudget, "crash-budget", 3, "crashes within ten minutes, each after a denial, at which a workload is only audited, 0 or more; 0: they do not count")
	fs.StringVar(&f.c.Readiness, "readiness", "", "on or off: ask systemd or Kubernetes about a workload that was denied something, and only audit one that is not ready any more (default on)")
	cli.Choice(cmd, "readiness", "on", "off")
	fs.StringVar(&f.c.Alerts, "alerts", "", "also write alerts as lines to `FILE`; - is standard output")
	fs.StringVar(&f.c.AlertsFormat, "alerts-format", "", "json or text, Falco's line: of --alerts and --alerts-syslog (default json)")
	cli.Choice(cmd, "alerts-format", "json", "text")
	fs.StringVar(&f.c.Priority, "priority", "", "`SEVERITY` that a rule has to have, as Falco's option; those that deny are always in force (default debug: all)")
	fs.StringVar(&f.c.AlertsHTTP, "alerts-http", "", "also post each alert in Falco's JSON to this `URL`, falcosidekick's for example")
	fs.StringVar(&f.c.AlertsHTTPCA, "alerts-http-ca", "", "PEM `FILE` with the CA of an https URL (default: the system's)")
	fs.StringVar(&f.c.AlertsSyslog, "alerts-syslog", "", "also log alerts to `ADDRESS`: unix:///dev/log, udp://HOST:PORT or tcp://HOST:PORT")
	fs.StringVar(&f.c.FalcoSocket, "falco-socket", "", "let clients of Falco's gRPC outputs read alerts on this Unix socket `FILE`")
	fs.StringVar(&f.c.Falco.HTTPListen, "falco-http-listen", "", "take the alerts of Falco's http_output on this `ADDRESS`; :PORT is on the loopback only")
	fs.StringVar(&f.c.Falco.Socket, "falco-from", "", "take the alerts of Falco's gRPC outputs (until 0.43) from its Unix socket `FILE`")
	fs.StringSliceVar(&f.c.Rules, "rules", nil, "`FILE` or directory of rules beside the built-in ones, read again when it changes (may repeat)")
	fs.StringVar(&f.c.RuleMatching, "rule-matching", "", "all or first: how many rules may raise an alert for one event (default all; Falco's is first)")
	cli.Choice(cmd, "rule-matching", "all", "first")
	fs.StringVar(&f.c.TrustDomain, "trust-domain", "", "SPIFFE trust domain (default plumbline.local)")
	fs.StringVar(&f.c.Metrics, "metrics", "", "serve /metrics on this `ADDRESS`")
	fs.StringVar(&f.c.ControlPlane.URL, "control-plane", "", "`URL` of the control plane, nats://HOST:PORT")
	fs.StringVar(&f.c.ControlPlane.PasswordFile, "password-file", "", "`FILE` with the agent's password for the control plane")
	fs.StringVar(&f.c.ControlPlane.Tenant, "tenant", "", "tenant in the control plane (default default)")
	fs.StringVar(&f.c.ControlPlane.Cluster, "cluster", "", "cluster in the control plane (default default)")
	cli.Choice(cmd, "on-stop", "keep", "release")
	return cmd
}

func runAgent(cmd *cobra.Command, c agent.Config) error {
	// A huge page is resident as a whole once a byte of it is used: with Debian's default, that is half as
	// much memory again. A kernel that cannot do without them still runs the agent.
	if err := unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0); err != nil {
		c.Log.Debug("do without huge pages", "error", err)
	}
	reload := make(chan os.Signal, 1) // one that waits is enough
	signal.Notify(reload, unix.SIGHUP)
	defer signal.Stop(reload)
	c.Reload = reload
	a, err := agent.Open(c)
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	// Events allocate nothing, so collecting twice as often costs nothing from here on and halves the heap's slack.
	debug.SetGCPercent(50)
	s, err := a.Status()
	if err == nil {
		c.Log.Info("attached", "after", a.Attached().Round(time.Millisecond), "strength", s.Strength,
			"workloads", len(s.Workloads), "scope", c.Scope, "kernel", s.Kernel)
		err = a.Run(cmd.Context())
	}
	return errors.Join(err, a.Close())
}
