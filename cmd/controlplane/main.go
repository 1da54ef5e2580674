// Plumbline is the control plane and the operator's command line in one binary: "plumbline serve"
// gathers what agents report, the other commands ask it. It must never need root, nor touch a
// workload.
//
//	plumbline serve --data-dir /var/lib/plumbline-controlplane
//	plumbline alerts -f --severity warning
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/bus"
	"github.com/plumbline-io/plumbline/pkg/controlplane"
)

// version is set by the linker.
var version = "dev"

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 4
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "plumbline: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	if hint := hintFor(cmd, err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	return exitCode(err)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "plumbline",
		Short: "Gather and read what Plumbline agents report",
		Long: `Plumbline's control plane and its command line.

Agents hold workloads to their baselines inside the kernel and report what deviates. The control
plane stores these alerts; the other commands ask it, but for rules, which works on files.

Exit codes: 0 ok; 1 failed; 2 usage or bad configuration; 4 control plane unreachable.`,
		Version: version,
	}
	root.AddCommand(newServe(), newAlerts(), newAgents(), newRules(), newVersion())
	cli.Strict(root)
	return root
}

// usageError is about what the user wrote.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// workError is anything that a command met at work; errors of the command line itself have no type.
type workError struct{ error }

func (e workError) Unwrap() error { return e.error }

// work marks the errors of a command's own function.
func work(do func(*cobra.Command) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		if err := do(cmd); err != nil {
			return workError{err}
		}
		return nil
	}
}

func exitCode(err error) int {
	var usage usageError
	var atWork workError
	var found fault
	switch {
	case errors.As(err, &found):
		return found.code
	case errors.As(err, &usage), !errors.As(err, &atWork):
		return exitUsage
	case errors.Is(err, bus.ErrUnreachable):
		return exitUnreachable
	}
	return exitFailed
}

func hintFor(cmd *cobra.Command, err error) string {
	var usage usageError
	var atWork workError
	var advised hinted
	switch {
	case errors.As(err, &advised):
		return advised.hint
	case errors.Is(err, bus.ErrUnreachable):
		return "is it running? start it with 'plumbline serve', or say where it is with --server"
	case errors.Is(err, bus.ErrRefused):
		return "--password-file must name the operator.password of that control plane's data directory"
	case errors.Is(err, syscall.EADDRINUSE):
		return "another process listens there; stop it, or choose another address with --listen"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this host has no such address; choose another with --listen"
	case errors.Is(err, syscall.EACCES) && cmd.Name() == "serve" && !errors.Is(err, errDataDir):
		return "ports below 1024 are for root; choose another with --listen"
	case errors.Is(err, controlplane.ErrInUse):
		return "stop the other control plane, or choose another directory with --data-dir"
	case errors.Is(err, bus.ErrNoPassword):
		return "the control plane writes it as operator.password into its data directory; name it with --password-file"
	case errors.Is(err, errDataDir):
		return "choose a directory that you may write to with --data-dir"
	case errors.As(err, &usage), !errors.As(err, &atWork):
		return "see '" + cmd.CommandPath() + " --help'"
	}
	return ""
}
