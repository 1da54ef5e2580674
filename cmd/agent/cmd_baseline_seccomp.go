package main

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/baseline"
)

func newSeccomp() *cobra.Command {
	cmd := &cobra.Command{
		Use: "seccomp FILE -o OUT", Short: "Make a seccomp profile for container runtimes of a baseline", Args: cli.Names("FILE"),
		Long: `seccomp writes the system calls of a baseline as a profile that Docker, Podman, containerd,
CRI-O and Kubernetes load: they are allowed, every other call fails with EPERM. It is
their runtime and the kernel that enforce it, not Plumbline.

A second list in it allows what runc and crun need themselves between loading the
profile and executing the program (execve, capset, setuid, openat and the like).
Calls of 32-bit programs, if there are any, are allowed to both kinds of programs.`,
		Example: `  plumbline-agent baseline seccomp payments.baseline.yaml -o seccomp.json
  docker run --security-opt seccomp=seccomp.json payments
  plumbline-agent baseline show payments | plumbline-agent baseline seccomp - --arch arm64`,
	}
	out := cmd.Flags().StringP("output", "o", "-", "`FILE` to write; - is standard output")
	arch := cmd.Flags().String("arch", runtime.GOARCH, "of the machines that load it: amd64 or arm64")
	cli.Choice(cmd, "arch", "amd64", "arm64")
	_ = cmd.MarkFlagFilename("output", "json")
	cmd.RunE = atWork(func(cmd *cobra.Command, args []string) error {
		p, err := readProfile(cmd, args[0])
		if err != nil {
			return usageError{err}
		}
		text, unnamed, err := p.Seccomp(*arch)
		switch {
		case errors.Is(err, baseline.ErrNoSyscalls):
			return fmt.Errorf("%w: record it with --syscalls", err)
		case err != nil:
			return usageError{err}
		}
		for _, k := range unnamed {
			fmt.Fprintf(cmd.ErrOrStderr(), "left out: %s: it has no name here, and so not in libseccomp\n", k)
		}
		if err := writeFile(cmd, *out, text); err != nil {
			return fmt.Errorf("write seccomp profile: %w", err)
		}
		return nil
	})
	return cmd
}
