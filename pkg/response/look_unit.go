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
	mainEnded        time.Time // zero, too, if it runs
	becameActive     time.Time
	leftActive       time.Time
	leftInactive     time.Time // a start began, or the wait for one
	changed          time.Time
	restarts         uint32 // by systemd itself, since somebody started it last
}

const cldExited = 1

// look judges. A service that was stopped, or has ended in peace, is no failure of anybody; neither is what systemd
// itself could not do, nor one that ran out of memory.
func (s service) look() Look {
	why := s.active + " (" + s.sub + "): " + s.result
	changing := Look{Readiness: Changing, Why: s.active + " (" + s.sub + ")", Start: s.start()}
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
	since, ended := s.leftActive, s.endedByItself()
	if s.failedToStart() {
		since, ended = s.changed, s.startFailed()
	}
	if !ended {
		return changing
	}
	return Look{Readiness: NotReady, Since: since, WasReady: true, Why: why}
}

// start is the one that it is at, or waits for, if it was active before. Also a start by systemd itself is a job.
func (s service) start() Start {
	starts := s.active == "activating" || s.active == "deactivating" && s.leftInactive.After(s.leftActive)
	if !starts || s.leftActive.IsZero() || s.job != "" && s.job != "start" {
		return Start{}
	}
	begun := s.leftInactive
	if !begun.After(s.leftActive) { // RestartMode=direct
		begun = s.changed
	}
	number := s.restarts
	if s.sub == "auto-restart" { // it is counted when the wait is over
		number++
	}
	return Start{After: s.leftActive, Begun: begun, Number: number}
}

// failedToStart says whether it never became active since a start began. To wait for one is to leave inactive, too: then
// only that its program was started tells.
func (s service) failedToStart() bool {
	return s.becameActive.Before(s.mainStarted) || s.sub != "auto-restart" && s.leftInactive.After(s.leftActive) && s.becameActive.Before(s.leftInactive)
}

// startFailed says whether a start failed that nobody has cancelled. What ends because it was asked to may have been asked
// because a command before or after it failed: if it is no exit code of its own, it was that.
func (s service) startFailed() bool {
	switch s.result {
	case "exit-code":
		own := s.mainCode == cldExited && s.becameActive.Before(s.mainStarted)
		return !own || s.mainStatus == 0 || !s.mainStopped()
	case "signal", "core-dump", "start-limit-hit", "timeout", "protocol", "watchdog":
		return true
	}
	return false
}

// endedByItself says whether it ended, when it was active, without anybody's wish. Who is asked to stop ends after it has
// left that state; else it is the end that makes it leave.
func (s service) endedByItself() bool {
	switch s.result {
	case "watchdog":
		return true
	case "exit-code", "signal", "core-dump", "start-limit-hit":
		return !s.mainStopped() && !s.mainEnded.After(s.leftActive)
	}
	return false // a timeout was one of stopping
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
	var started, ended, active, left, begun, changed uint64 // microseconds
	for _, p := range []struct {
		of    func(ctx context.Context, unit, property string) (*systemd.Property, error)
		name  string
		value any
	}{
		{c.GetServicePropertyContext, "Result", &s.result},
		{c.GetServicePropertyContext, "ExecMainCode", &s.mainCode},
		{c.GetServicePropertyContext, "ExecMainStatus", &s.mainStatus},
		{c.GetServicePropertyContext, "ExecMainStartTimestamp", &started},
		{c.GetServicePropertyContext, "ExecMainExitTimestamp", &ended},
		{c.GetServicePropertyContext, "NRestarts", &s.restarts},
		{c.GetUnitPropertyContext, "ActiveEnterTimestamp", &active},
		{c.GetUnitPropertyContext, "ActiveExitTimestamp", &left},
		{c.GetUnitPropertyContext, "InactiveExitTimestamp", &begun},
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
	s.mainStarted, s.mainEnded, s.changed = moment(started), moment(ended), moment(changed)
	s.becameActive, s.leftActive, s.leftInactive = moment(active), moment(left), moment(begun)
	return nil
}

func moment(us uint64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(us))
}
