package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/bus"
)

// clientOptions are what every command has that asks the control plane.
type clientOptions struct {
	server, passwordFile, output string
	timeout                      time.Duration
	formats                      []string
}

// register adds the flags; more are formats of the command's own.
func (o *clientOptions) register(cmd *cobra.Command, more ...string) {
	f := cmd.Flags()
	f.StringVar(&o.server, "server", "nats://127.0.0.1:4222", "the control plane's address")
	f.StringVar(&o.passwordFile, "password-file", defaultPasswordFile(), "file with the operators' password")
	o.formats = registerOutput(cmd, &o.output, more...)
	f.DurationVar(&o.timeout, "timeout", 5*time.Second, "how long to wait for the control plane, more than 0")
}

func registerOutput(cmd *cobra.Command, output *string, more ...string) (formats []string) {
	formats = append([]string{"table", "json"}, more...)
	cmd.Flags().StringVarP(output, "output", "o", "table", strings.Join(formats, ", ")+"; json is one object a line")
	cli.Choice(cmd, "output", formats...)
	return formats
}

func checkOutput(output string, formats []string) error {
	if !slices.Contains(formats, output) {
		return usageError{fmt.Errorf("read --output: %q is none of %s", output, strings.Join(formats, ", "))}
	}
	return nil
}

func (o *clientOptions) dial() (*bus.Client, error) {
	if err := checkOutput(o.output, o.formats); err != nil {
		return nil, err
	}
	if o.timeout <= 0 {
		return nil, usageError{fmt.Errorf("read --timeout: %s is not more than 0", o.timeout)}
	}
	if u, err := url.Parse(o.server); err != nil || u.Scheme != "nats" || u.Host == "" {
		return nil, usageError{fmt.Errorf("read --server: %q is not like nats://host:port", o.server)}
	}
	c, err := bus.Dial(bus.ClientConfig{URL: o.server, PasswordFile: o.passwordFile, Timeout: o.timeout})
	if errors.Is(err, bus.ErrNoPassword) {
		return nil, usageError{err}
	}
	return c, err
}

// writeLine writes one JSON object and a newline.
func writeLine(w io.Writer, raw json.RawMessage) error {
	_, err := w.Write(append(raw[:len(raw):len(raw)], '\n'))
	return err
}
