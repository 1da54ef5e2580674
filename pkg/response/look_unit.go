package response

import (
	"context"
	"fmt"
	"slices"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// service is what systemd tells of one. A time is zero if that never happened.
type service struct {
	active, sub, job string
	result           string
	mainCode         int32 // CLD_EXITED, CLD_KILLED or CLD_DUMPED; 0: it runs, or there was none
	mainStatus       int32
	mainStarted      time.Time
	becameActive     time.Time
	leftActive       time.Time
	changed          time.Time
}

const cldExited = 1

// look judges. A service that was stopped, or has ended in peace, is no failure of anybody; neither is what systemd
// itself could not do, nor one that ran out of memory.
func (s service) look() Look {
	why := s.active + " (" + s.sub + "): " + s.result
	changing := Look{Readiness: Changing, Why: s.active + " (" + s.sub + ")"}
	switch {
	case s.active == "active":
		return Look{Readiness: Ready}
	case s.active == "inactive" && s.result == "":
		return Look{Readiness: Unknown, Why: "systemd has no such service"}
	case s.job != "", s.becameActive.IsZero():
		return changing
	case s.sub == "stop-watchdog": // it is being ended, and has no result yet in some versions
		return Look{Readiness: NotReady, Since: s.leftActive, WasReady: true, Why: why}
	case s.active != "failed" && s.sub != "auto-restart":
		return changing
	}
	// One that never became active since its program was started has failed to start.
	failedToStart := s.becameActive.Before(s.mainStarted)
	since := s.leftActive
	if failedToStart {
		since = s.changed
	}
	ended := false
	switch s.result {
	case "watchdog":
		ended = true
	case "exit-code", "signal", "core-dump", "start-limit-hit":
		ended = !s.mainStopped()
	case "timeout", "protocol":
		ended = failedToStart // else it was to stop
	}
	if !ended {
		return changing
	}
	return Look{Readiness: NotReady, Since: since, WasReady: true, Why: why}
}

// mainStopped says whether the main process has ended in peace, or because it was asked to: 128 and the signal is what
// programs exit with that end because of one.
func (s service) mainStopped() bool {
	if s.mainStatus == 0 {
		return true
	}
	stops := []int32{int32(unix.SIGTERM), int32(unix.SIGINT), int32(unix.SIGHUP)}
	if s.mainCode == cldExited {
		return slices.Contains(stops, s.mainStatus-128)
	}
	return slices.Contains(stops, s.mainStatus)
}

// lookAtUnits asks systemd about services, over one connection. What it could not ask about is missing.
func lookAtUnits(ctx context.Context, socket string, names []string) (map[string]Look, error) {
	c, err := systemd.NewConnection(func() (*dbus.Conn, error) { return dialBus(ctx, socket) })
	if err != nil {
		return nil, err
	}
	defer c.Close()
	units, err := c.ListUnitsByNamesContext(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("ask systemd about units: %w", err)
	}
	looks := map[string]Look{}
	for _, u := range units {
		if !slices.Contains(names, u.Name) {
			continue // an alias; it is asked about by its own name, which cgroups have
		}
		s := service{active: u.ActiveState, sub: u.SubState, job: u.JobType}
		if s.active != "active" && u.LoadState == "loaded" {
			if err := s.ask(ctx, c, u.Name); err != nil {
				return looks, fmt.Errorf("ask systemd about %s: %w", u.Name, err)
			}
		}
		looks[u.Name] = s.look()
	}
	return looks, nil
}

// ask for what matters of a service that is not active.
func (s *service) ask(ctx context.Context, c *systemd.Conn, name string) error {
	var started, active, left, changed uint64 // microseconds
	for _, p := range []struct {
		of    func(ctx context.Context, unit, property string) (*systemd.Property, error)
		name  string
		value any
	}{
		{c.GetServicePropertyContext, "Result", &s.result},
		{c.GetServicePropertyContext, "ExecMainCode", &s.mainCode},
		{c.GetServicePropertyContext, "ExecMainStatus", &s.mainStatus},
		{c.GetServicePropertyContext, "ExecMainStartTimestamp", &started},
		{c.GetUnitPropertyContext, "ActiveEnterTimestamp", &active},
		{c.GetUnitPropertyContext, "ActiveExitTimestamp", &left},
		{c.GetUnitPropertyContext, "StateChangeTimestamp", &changed},
	} {
		got, err := p.of(ctx, name, p.name)
		if err == nil {
			err = got.Value.Store(p.value)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", p.name, err)
		}
	}
	s.mainStarted, s.becameActive, s.leftActive, s.changed = moment(started), moment(active), moment(left), moment(changed)
	return nil
}

func moment(us uint64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(us))
}
