package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/agent"
)

// unloadOptions say whose pins are meant.
type unloadOptions struct{ dir, config, socket string }

func newUnload() *cobra.Command {
	cmd := &cobra.Command{
		Use: "unload", Short: "Take out of the kernel what an agent has left there", Args: cobra.NoArgs,
		Long: `unload ends enforcement that outlives the agent: it removes every hook and map that
an agent has pinned, also in directories that the configuration named earlier, and lets
workloads go on that are quarantined. It is refused while the agent runs: stop that
first, or run it with --on-stop release. Without --config it takes the agent for one
with the default configuration; with --pin-dir or --socket alone, whose state directory
is not known, quarantined workloads stay so. If there is nothing, it names the other
directories on this machine in which agents pinned.`,
		Example: `  systemctl stop plumbline-agent && plumbline-agent unload --config /etc/plumbline/agent.yaml
  plumbline-agent unload --pin-dir /sys/fs/bpf/plumbline-canary`,
	}
	var o unloadOptions
	fs := cmd.Flags()
	fs.StringVar(&o.dir, "pin-dir", "", "`DIR` of the pins (default: what the configuration says, and said)")
	fs.StringVar(&o.config, "config", "", "YAML configuration `FILE` of the agent")
	fs.StringVar(&o.socket, "socket", "", "Unix socket `FILE` of the agent (default "+defaultSocket+")")
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error { return runUnload(cmd, o) })
	return cmd
}

func runUnload(cmd *cobra.Command, o unloadOptions) error {
	dirs, err := o.dirs()
	if err != nil {
		return err
	}
	var errs []error
	found := false
	for _, dir := range dirs {
		removed, err := agent.Unload(dir)
		errs = append(errs, err)
		found = found || err != nil || len(removed) > 0
		for _, name := range removed {
			fmt.Fprintln(cmd.OutOrStdout(), "removed", name)
		}
	}
	if len(errs) == 0 || errors.Join(errs...) == nil {
		released, err := o.release()
		errs = append(errs, err)
		found = found || err != nil || len(released) > 0
		for _, name := range released {
			fmt.Fprintln(cmd.OutOrStdout(), "released", cli.Printable(name))
		}
	}
	if found {
		return errors.Join(errs...)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "nothing is pinned in %s\n", strings.Join(dirs, ", "))
	for _, other := range agent.OtherPinDirs(dirs) {
		fmt.Fprintf(cmd.OutOrStdout(), "but in %s: plumbline-agent unload --pin-dir %s\n", other, other)
	}
	return nil
}

// release lets the workloads go on that the agent has stopped, if it is known where it wrote them down.
func (o unloadOptions) release() ([]string, error) {
	if o.config == "" && (o.dir != "" || o.socket != "") {
		return nil, nil
	}
	c, err := o.read()
	if err != nil {
		return nil, err
	}
	return agent.ReleaseAll(c)
}

// read reads the configuration; without a file it is the default one.
func (o unloadOptions) read() (agent.Config, error) {
	if o.config == "" {
		return agent.Config{}, nil
	}
	c, err := agent.ReadConfig(o.config)
	if err != nil {
		return c, usageError{err}
	}
	return c, nil
}

// dirs lists where the agent pins, or has pinned.
func (o unloadOptions) dirs() ([]string, error) {
	c, err := o.read()
	switch {
	case err != nil:
		return nil, err
	case o.dir != "":
		return []string{o.dir}, nil
	case o.config != "":
	case o.socket != "":
		// Another agent than the default one, and its state directory is not known.
		socket, err := filepath.Abs(o.socket)
		if err != nil {
			return nil, fmt.Errorf("find pins: %w", err)
		}
		return []string{agent.DefaultPinDir(socket)}, nil
	}
	if o.socket != "" {
		c.Socket = o.socket
	}
	return agent.PinDirs(c)
}
