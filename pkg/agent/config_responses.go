package agent

import (
	"fmt"
	"path/filepath"
	"time"
)

// What the configuration says of responses, and of readiness.
const (
	on  = "on"
	off = "off"
)

func (c *Config) checkResponses() error {
	if c.Responses != on && c.Responses != off {
		return fmt.Errorf("check responses: unknown %q: want %s or %s", c.Responses, on, off)
	}
	if c.Readiness != on && c.Readiness != off {
		return fmt.Errorf("check readiness: unknown %q: want %s or %s", c.Readiness, on, off)
	}
	if c.ResponsesPerNode < 1 {
		return fmt.Errorf("check responses_per_node: %d is less than 1", c.ResponsesPerNode)
	}
	if limit, err := time.ParseDuration(c.QuarantineLimit); err != nil || limit < 0 {
		return fmt.Errorf("check quarantine_limit: %q is no time like 90s, 30m or 1h, and not 0", c.QuarantineLimit)
	}
	if !filepath.IsAbs(c.DBusSocket) {
		return fmt.Errorf("check dbus_socket: %s is not an absolute path", c.DBusSocket)
	}
	return nil
}

// quarantineLimit is that of the configuration; it has been checked. 0: there is none.
func (c *Config) quarantineLimit() time.Duration {
	limit, _ := time.ParseDuration(c.QuarantineLimit)
	return limit
}
