package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/falco"
	"github.com/plumbline-io/plumbline/pkg/output"
)

// checkOutputs checks where alerts go beside the control plane.
func (c *Config) checkOutputs() error {
	if _, err := alert.ParseFormat(c.AlertsFormat); err != nil {
		return fmt.Errorf("check alerts_format: %w", err)
	}
	if c.AlertsHTTP != "" {
		if err := output.CheckHTTP(c.AlertsHTTP); err != nil {
			return fmt.Errorf("check alerts_http: %w", err)
		}
	}
	if c.AlertsHTTPCA != "" && !strings.HasPrefix(c.AlertsHTTP, "https://") {
		return errors.New("check alerts_http_ca: alerts_http is no https:// URL")
	}
	if c.AlertsSyslog != "" {
		if _, err := output.NewSyslog(c.AlertsSyslog, alert.JSON); err != nil {
			return fmt.Errorf("check alerts_syslog: %w", err)
		}
	}
	return nil
}

func (c *Config) checkFalco() error {
	for field, socket := range map[string]string{"falco_socket": c.FalcoSocket, "falco.socket": c.Falco.Socket} {
		switch {
		case socket == "":
		case !filepath.IsAbs(socket):
			return fmt.Errorf("check %s: %s is not an absolute path", field, socket)
		case filepath.Clean(socket) == filepath.Clean(c.Socket):
			return fmt.Errorf("check %s: %s is the agent's own socket", field, socket)
		}
	}
	if c.FalcoSocket != "" && filepath.Clean(c.FalcoSocket) == filepath.Clean(c.Falco.Socket) {
		return fmt.Errorf("check falco.socket: %s is falco_socket too: alerts would go in circles", c.FalcoSocket)
	}
	if c.Falco.wantsClient() {
		if _, err := falco.New(c.Falco.client(nil)); err != nil {
			return fmt.Errorf("check falco: %w", err)
		}
	}
	if c.Falco.HTTPListen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.Falco.HTTPListen)
	if err != nil {
		return fmt.Errorf("check falco.http_listen: %w", err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("check falco.http_listen %q: the port is no number from 0 to 65535", c.Falco.HTTPListen)
	}
	if host == "" {
		c.Falco.HTTPListen = net.JoinHostPort("127.0.0.1", port) // whoever wants others to post names an address
	}
	return nil
}

// alertsFormat is that of the configuration; it has been checked.
func (c *Config) alertsFormat() alert.Format {
	format, _ := alert.ParseFormat(c.AlertsFormat)
	return format
}

// wantsClient says whether anything of Falco's gRPC outputs is configured.
func (f *FalcoInput) wantsClient() bool {
	return f.Socket != "" || f.Host != "" || f.Port != 0 || f.CertFile != "" || f.KeyFile != "" || f.CAFile != ""
}

// client is the configuration of who reads them.
func (f *FalcoInput) client(log *slog.Logger) falco.Config {
	return falco.Config{
		Socket: f.Socket, Host: f.Host, Port: f.Port, CertFile: f.CertFile, KeyFile: f.KeyFile, CAFile: f.CAFile, Log: log,
	}
}
