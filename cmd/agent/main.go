// Plumbline-agent is the node daemon and its node-local verbs. Exit codes: 0 fine, 1 failed or
// something is missing, 2 wrong usage or configuration; `baseline` has verbs with others, see there.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/agent"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a fault of the command line or the configuration: nothing was tried.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// workError is anything that a verb met at work; errors of the command line itself have no type.
type workError struct{ error }

func (e workError) Unwrap() error { return e.error }

// work marks the errors of a verb's own function, and checks the flags that verbs have in common.
func work(do func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return atWork(func(cmd *cobra.Command, args []string) error {
		if err := checkOutput(cmd); err != nil {
			return err
		}
		return do(cmd, args)
	})
}

// atWork is work for a verb whose --output is of its own.
func atWork(do func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := do(cmd, args); err != nil {
			return workError{err}
		}
		return nil
	}
}

func isUsage(err error) bool {
	var usage usageError
	var atWork workError
	return errors.As(err, &usage) || !errors.As(err, &atWork)
}

// exitError ends a verb with an exit code of its own. Without an error, it has printed what is to be said.
type exitError struct {
	code int
	error
}

func (e exitError) Unwrap() error { return e.error }

// errFindings ends a verb with exit code 1 after it has printed what is wrong.
var errFindings = errors.New("")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	var own exitError
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, errFindings):
		return exitFailed
	case errors.As(err, &own) && own.error == nil:
		return own.code
	}
	fmt.Fprintln(stderr, "plumbline-agent:", strings.ReplaceAll(err.Error(), "\n", "; "))
	if hint := hintFor(cmd, err); hint != "" {
		fmt.Fprintln(stderr, "hint:", hint)
	}
	if own.code != exitFine {
		return own.code
	}
	if isUsage(err) {
		return exitUsage
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "plumbline-agent",
		Short: "Learn what workloads do, and hold them to it inside the kernel",
		Long: `plumbline-agent observes with eBPF what each workload executes and maps, which files it opens and
changes, which sockets and addresses it uses and which privileges, and beside that TLS handshakes
(metadata only) and garbage-collector pauses. It learns a baseline for each workload and holds the
workload to it inside the kernel. Rules in Falco's form raise alerts, and deny where they say so.

Exit codes: 0 fine; 1 failed, or something is missing; 2 wrong usage or configuration, nothing was tried.`,
		Version: version,
	}
	root.AddCommand(newRun(), newCheck(), newStatus(), newEvents(), newBaseline(), newExplain(), newMode(), newPause(), newResume(), newRelease(), newUnload(), newRules(), newVersion())
	cli.Strict(root)
	return root
}

func newVersion() *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Example: "  plumbline-agent version\n  plumbline-agent version -o json | jq -r .version",
	}
	output := outputFlag(cmd, "table")
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) (err error) {
		platform := runtime.GOOS + "/" + runtime.GOARCH
		if *output == "json" {
			return printJSON(cmd.OutOrStdout(), map[string]string{"version": version, "go": runtime.Version(), "platform": platform})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "plumbline-agent %s %s %s\n", version, runtime.Version(), platform)
		return err
	})
	return cmd
}

func newLogger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{fmt.Errorf("read --log-level: unknown level %q: want debug, info, warn or error", level)}
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// configFlags are the flags that change what a configuration file says.
type configFlags struct {
	file, logLevel string
	denyBudget     int
	crashBudget    int
	c              agent.Config
}

func (f *configFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.file, "config", "", "YAML configuration `FILE`; flags override it")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringSliceVar(&f.c.Scope, "scope", nil, "confine the agent to this cgroup `DIR` and what is below (may repeat)")
	fs.StringVar(&f.c.Strength, "strength", "", "auto, lsm, fmod_ret, signal; fanotify, where executions wait for the agent; or cgroup, which holds the network alone (default auto: the strongest of the others)")
	fs.StringSliceVar(&f.c.Dimensions, "dimensions", nil, "what new workloads are learnt in: exec, library, file, unix, network, privilege (default these), and syscalls, which are not enforced")
	fs.StringVar(&f.c.BTF, "btf", "", "`FILE` with the kernel's types, for kernels that do not bring them")
	_ = cmd.MarkFlagDirname("scope")
	cli.Choice(cmd, "strength", "auto", "lsm", "fmod_ret", "fanotify", "signal", "cgroup")
	cli.Choice(cmd, "log-level", "debug", "info", "warn", "error")
}

// load reads the file, lets the flags that were given override it, and checks the result.
func (f *configFlags) load(cmd *cobra.Command) (agent.Config, error) {
	var c agent.Config
	if f.file != "" {
		var err error
		if c, err = agent.ReadConfig(f.file); err != nil {
			return c, usageError{err}
		}
	}
	for flag, field := range map[string]struct{ to, from *string }{
		"strength":          {&c.Strength, &f.c.Strength},
		"alerts-format":     {&c.AlertsFormat, &f.c.AlertsFormat},
		"priority":          {&c.Priority, &f.c.Priority},
		"alerts-http":       {&c.AlertsHTTP, &f.c.AlertsHTTP},
		"alerts-http-ca":    {&c.AlertsHTTPCA, &f.c.AlertsHTTPCA},
		"alerts-syslog":     {&c.AlertsSyslog, &f.c.AlertsSyslog},
		"falco-socket":      {&c.FalcoSocket, &f.c.FalcoSocket},
		"falco-http-listen": {&c.Falco.HTTPListen, &f.c.Falco.HTTPListen},
		"falco-from":        {&c.Falco.Socket, &f.c.Falco.Socket},
		"rule-matching":     {&c.RuleMatching, &f.c.RuleMatching},
		"btf":               {&c.BTF, &f.c.BTF},
		"mode":              {&c.Mode, &f.c.Mode},
		"node":              {&c.Node, &f.c.Node},
		"state-dir":         {&c.StateDir, &f.c.StateDir},
		"socket":            {&c.Socket, &f.c.Socket},
		"pin-dir":           {&c.PinDir, &f.c.PinDir},
		"readiness":         {&c.Readiness, &f.c.Readiness},
		"on-stop":           {&c.OnStop, &f.c.OnStop},
		"alerts":            {&c.Alerts, &f.c.Alerts},
		"trust-domain":      {&c.TrustDomain, &f.c.TrustDomain},
		"metrics":           {&c.Metrics, &f.c.Metrics},
		"control-plane":     {&c.ControlPlane.URL, &f.c.ControlPlane.URL},
		"password-file":     {&c.ControlPlane.PasswordFile, &f.c.ControlPlane.PasswordFile},
		"tenant":            {&c.ControlPlane.Tenant, &f.c.ControlPlane.Tenant},
		"cluster":           {&c.ControlPlane.Cluster, &f.c.ControlPlane.Cluster},
	} {
		if cmd.Flags().Changed(flag) {
			*field.to = *field.from
		}
	}
	if cmd.Flags().Changed("scope") {
		c.Scope = f.c.Scope
	}
	if cmd.Flags().Changed("dimensions") {
		c.Dimensions = f.c.Dimensions
	}
	if cmd.Flags().Changed("deny-budget") {
		c.DenyBudget = &f.denyBudget
	}
	if cmd.Flags().Changed("crash-budget") {
		c.CrashBudget = &f.crashBudget
	}
	if cmd.Flags().Changed("rules") {
		c.Rules = f.c.Rules
	}
	log, err := newLogger(cmd.ErrOrStderr(), f.logLevel)
	if err != nil {
		return c, err
	}
	c.Version, c.Log = version, log
	if err := c.Complete(); err != nil {
		return c, usageError{err}
	}
	return c, nil
}
