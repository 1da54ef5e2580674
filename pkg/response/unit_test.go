package response

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// manager answers on a real bus as systemd's does. It ends each job at once, with one result.
type manager struct {
	conn   *dbus.Conn
	mu     sync.Mutex
	result string
	asked  []string
	rows   []unitRow
	values map[string]any // properties of shop.service
}

// unitRow is one of ListUnitsByNames.
type unitRow struct {
	Name, Description, LoadState, ActiveState, SubState, Followed string
	Path                                                          dbus.ObjectPath
	JobID                                                         uint32
	JobType                                                       string
	JobPath                                                       dbus.ObjectPath
}

// answer with a result from now on; "": a job does not end.
func (m *manager) answer(result string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.result, m.asked = result, nil
}

func (m *manager) wasAsked() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.asked, ", ")
}

const (
	managerName  = "org.freedesktop.systemd1"
	managerPath  = "/org/freedesktop/systemd1"
	managerIface = "org.freedesktop.systemd1.Manager"
)

func (m *manager) job(verb, unit, mode string) (dbus.ObjectPath, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, verb+" "+unit+" "+mode)
	if unit != "shop.service" {
		return "", dbus.NewError("org.freedesktop.systemd1.NoSuchUnit", []any{"Unit " + unit + " not loaded."})
	}
	job := dbus.ObjectPath(managerPath + "/job/7")
	if m.result != "" {
		_ = m.conn.Emit(managerPath, managerIface+".JobRemoved", uint32(7), job, unit, m.result)
	}
	return job, nil
}

// StopUnit is systemd's.
func (m *manager) StopUnit(unit, mode string) (dbus.ObjectPath, *dbus.Error) {
	return m.job("stop", unit, mode)
}

// RestartUnit is systemd's.
func (m *manager) RestartUnit(unit, mode string) (dbus.ObjectPath, *dbus.Error) {
	return m.job("restart", unit, mode)
}

// ListUnitsByNames is systemd's.
func (m *manager) ListUnitsByNames(names []string) ([]unitRow, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, strings.Join(names, " "))
	return m.rows, nil
}

// Get is that of a unit's properties.
func (m *manager) Get(iface, name string) (dbus.Variant, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, strings.TrimPrefix(iface, managerName+".")+"."+name)
	value, known := m.values[name]
	if !known {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{"Unknown property " + name})
	}
	return dbus.MakeVariant(value), nil
}

// newManager starts a bus of the test's own, with a manager on it.
func newManager(t *testing.T) (*manager, string) {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("needs dbus-daemon")
	}
	socket := filepath.Join(t.TempDir(), "bus, of a test")
	cmd := exec.Command(daemon, "--session", "--nofork", "--nopidfile", "--address=unix:path="+dbus.EscapeBusAddressValue(socket))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	m := &manager{}
	eventually(t, "connect to the bus", func() bool {
		m.conn, err = dialBus(context.Background(), socket)
		return err == nil
	})
	t.Cleanup(func() { _ = m.conn.Close() })
	if err := m.conn.Export(m, managerPath, managerIface); err != nil {
		t.Fatal(err)
	}
	if err := m.conn.Export(m, managerPath+"/unit/shop_2eservice", "org.freedesktop.DBus.Properties"); err != nil {
		t.Fatal(err)
	}
	if reply, err := m.conn.RequestName(managerName, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	return m, socket
}

// systemd is asked for a job by the unit's name, and its result is what we tell.
func TestUnits(t *testing.T) {
	m, socket := newManager(t)
	ctx := context.Background()
	for _, tc := range []struct{ verb, unit, result, done, err string }{
		{"stop", "shop.service", "done", "systemd has done it", ""},
		{"restart", "shop.service", "done", "systemd has done it", ""},
		{"restart", "shop.service", "failed", "", "systemd says of its job: failed"},
		{"stop", "shop.service", "canceled", "", "systemd says of its job: canceled"},
		{"stop", "gone.service", "", "", "stop unit: Unit gone.service not loaded."},
	} {
		m.answer(tc.result)
		do := stopUnit
		if tc.verb == "restart" {
			do = restartUnit
		}
		done, err := do(ctx, socket, tc.unit)
		if done != tc.done || (err == nil) != (tc.err == "") || err != nil && err.Error() != tc.err {
			t.Errorf("%+v: %q, %v", tc, done, err)
		}
		if got, want := m.wasAsked(), tc.verb+" "+tc.unit+" replace"; got != want {
			t.Errorf("asked to %s, want %s", got, want)
		}
	}
	m.answer("") // its job takes longer than we wait
	ctx, cancel := context.WithTimeout(ctx, aWhile)
	defer cancel()
	begin := time.Now()
	if _, err := stopUnit(ctx, socket, "shop.service"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > patience {
		t.Error(err)
	}
}
