package response

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// unitTime is how long we wait for systemd's job; it goes on after that. systemd itself kills after 90 s by default.
const unitTime = 2 * time.Minute

// stopUnit lets systemd stop a unit, which it does not start again by itself then.
func stopUnit(ctx context.Context, socket, name string) (string, error) {
	return unitJob(ctx, socket, func(ctx context.Context, c *systemd.Conn, result chan<- string) error {
		_, err := c.StopUnitContext(ctx, name, "replace", result)
		return wrap("stop unit", err)
	})
}

// restartUnit lets systemd stop a unit and start it again.
func restartUnit(ctx context.Context, socket, name string) (string, error) {
	return unitJob(ctx, socket, func(ctx context.Context, c *systemd.Conn, result chan<- string) error {
		_, err := c.RestartUnitContext(ctx, name, "replace", result)
		return wrap("restart unit", err)
	})
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// unitJob connects for one job, and waits for its end.
func unitJob(ctx context.Context, socket string, begin func(context.Context, *systemd.Conn, chan<- string) error) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, unitTime)
	defer cancel()
	c, err := systemd.NewConnection(func() (*dbus.Conn, error) { return dialBus(ctx, socket) })
	if err != nil {
		return "", err
	}
	defer c.Close()
	result := make(chan string, 1)
	if err := begin(ctx, c, result); err != nil {
		return "", err
	}
	select {
	case got := <-result:
		if got != "done" {
			return "", fmt.Errorf("systemd says of its job: %s", got)
		}
		return "systemd has done it", nil
	case <-ctx.Done():
		return "", fmt.Errorf("systemd was asked, and has not finished its job: %w", ctx.Err())
	}
}

// dialBus connects to the system bus as the user that we are.
func dialBus(ctx context.Context, socket string) (*dbus.Conn, error) {
	c, err := dbus.Dial("unix:path="+dbus.EscapeBusAddressValue(socket), dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("connect to D-Bus at %s: %w", socket, err)
	}
	if err := c.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("authenticate at D-Bus %s: %w", socket, err)
	}
	if err := c.Hello(); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("greet D-Bus at %s: %w", socket, err)
	}
	return c, nil
}
