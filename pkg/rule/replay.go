package rule

import (
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// MaxEventBytes bounds one recorded event. Command lines have at most a few kilobytes.
const MaxEventBytes = 1 << 20

// Gap stands in a recording where the reader was too slow.
type Gap struct{ Missed uint64 }

// Error says how many events are not there.
func (g Gap) Error() string { return fmt.Sprintf("%d events were missed here", g.Missed) }

// record is an event as "plumbline-agent events -o json" prints it.
type record struct {
	Time         time.Time          `json:"time"`
	Kind         string             `json:"kind"`
	Verdict      string             `json:"verdict"`
	Hook         string             `json:"hook"`
	Workload     string             `json:"workload"`
	WorkloadKind string             `json:"workload_kind"`
	ContainerID  string             `json:"container_id"`
	SPIFFEID     string             `json:"spiffe_id"`
	PID          uint32             `json:"pid"`
	Exe          string             `json:"exe"`
	Missed       uint64             `json:"missed"`
	Process      *event.Process     `json:"process"`
	Fork         *event.ForkInfo    `json:"fork"`
	Exec         *event.ExecInfo    `json:"exec"`
	Access       *event.AccessInfo  `json:"access"`
	Exit         *event.ExitInfo    `json:"exit"`
	Handshake    *recordedHandshake `json:"handshake"`
	Pause        *recordedPause     `json:"pause"`
	Cgroup       *string            `json:"cgroup"`
}

type recordedHandshake struct {
	Library         string    `json:"library"`
	Role            string    `json:"role"`
	OK              bool      `json:"ok"`
	Resumed         bool      `json:"resumed"`
	Version         string    `json:"version"`
	Suite           string    `json:"suite"`
	Group           uint16    `json:"group"`
	Alert           *int16    `json:"alert"`
	VerifyResult    int32     `json:"verify_result"`
	Reason          uint32    `json:"reason"`
	ServerName      string    `json:"server_name"`
	ALPN            string    `json:"alpn"`
	PeerFingerprint string    `json:"peer_sha256"`
	PeerSPIFFEID    string    `json:"peer_spiffe_id"`
	PeerNotAfter    time.Time `json:"peer_not_after"`
	Milliseconds    float64   `json:"duration_ms"`
}

type recordedPause struct {
	GC           bool    `json:"gc"`
	Reason       uint8   `json:"reason"`
	Microseconds float64 `json:"total_us"`
	Stopping     float64 `json:"stopping_us"`
}

// ParseEvent reads one line of what "plumbline-agent events -o json" prints: what happened, to whom,
// and when. Keys that it does not know are left alone, a newer agent may have more. A line that stands
// for events that were missed is the error Gap.
func ParseEvent(line []byte) (*event.Event, Workload, time.Time, error) {
	ev, w, at, err := parseEvent(line)
	if err != nil {
		return nil, Workload{}, time.Time{}, fmt.Errorf("read event: %w", err)
	}
	return ev, w, at, nil
}

func parseEvent(line []byte) (*event.Event, Workload, time.Time, error) {
	var r record
	if len(line) > MaxEventBytes {
		return nil, Workload{}, time.Time{}, fmt.Errorf("more than %d bytes", MaxEventBytes)
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, Workload{}, time.Time{}, jsonMistake(err)
	}
	if r.Kind == "missed" {
		return nil, Workload{}, time.Time{}, Gap{r.Missed}
	}
	ev := &event.Event{Tgid: r.PID, Tid: r.PID, Process: event.Process{PID: r.PID, Path: r.Exe}}
	if r.Process != nil {
		ev.Process = *r.Process
	}
	var errs [4]error
	ev.Kind, errs[0] = nameOf("kind", r.Kind, event.Fork, event.KindCount)
	ev.Verdict, errs[1] = nameOf("verdict", r.Verdict, event.Allow, event.Deny+1)
	ev.Hook, errs[2] = nameOf("hook", r.Hook, event.HookUnspecified, event.HookFentry+1)
	if year := r.Time.UTC().Year(); year < 1970 || year > 2200 { // what nanoseconds can count, with room
		errs[3] = fmt.Errorf("time: missing, or not within 1970 and 2200")
	}
	for _, err := range errs {
		if err != nil {
			return nil, Workload{}, time.Time{}, err
		}
	}
	err := r.part(ev)
	return ev, Workload{Name: r.Workload, Kind: r.WorkloadKind, ContainerID: r.ContainerID, SPIFFEID: r.SPIFFEID}, r.Time, err
}

// jsonMistake says in the words of the recording what the JSON reader says in Go's.
func jsonMistake(err error) error {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Errorf("%s: %s does not fit here", kind.Field, kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("expected an object, not %s", kind.Value)
	case errors.As(err, &syntax):
		return fmt.Errorf("column %d: %w", max(syntax.Offset, 1), err)
	}
	return err
}

// nameOf finds the value that has a name, from first up to end.
func nameOf[T interface {
	~uint8 | ~uint16
	fmt.Stringer
}](key, name string, first, end T,
) (T, error) {
	for v := first; v < end; v++ {
		if v.String() == name {
			return v, nil
		}
	}
	return 0, fmt.Errorf("%s: unknown value %.60q", key, name)
}

// part takes in what only this kind of event has.
func (r *record) part(ev *event.Event) error {
	missing := func(key string) error { return fmt.Errorf("%s: missing in an event of kind %s", key, ev.Kind) }
	switch {
	case ev.Kind == event.Fork && r.Fork == nil:
		return missing("fork")
	case ev.Kind == event.Fork:
		ev.Fork = *r.Fork
	case (ev.Kind == event.Exec || ev.Kind == event.ExecCheck) && r.Exec == nil:
		return missing("exec")
	case ev.Kind == event.Exec || ev.Kind == event.ExecCheck:
		ev.Exec = *r.Exec
	case ev.Kind == event.Exit && r.Exit == nil:
		return missing("exit")
	case ev.Kind == event.Exit:
		ev.Exit = *r.Exit
	case ev.Kind == event.Handshake && r.Handshake == nil:
		return missing("handshake")
	case ev.Kind == event.Handshake:
		return r.Handshake.fill(&ev.Handshake)
	case ev.Kind == event.Pause && r.Pause == nil:
		return missing("pause")
	case ev.Kind == event.Pause:
		return r.Pause.fill(&ev.Pause)
	case ev.Kind == event.Access && r.Access == nil:
		return missing("access")
	case ev.Kind == event.Access:
		ev.Access = *r.Access
	case ev.Kind == event.Cgroup && r.Cgroup != nil:
		ev.Cgroup.Path = *r.Cgroup
	}
	return nil
}

func (p *recordedPause) fill(info *event.PauseInfo) (err error) {
	info.GC, info.Reason = p.GC, p.Reason
	if info.Total, err = nanoseconds("pause.total_us", p.Microseconds, time.Microsecond); err != nil {
		return err
	}
	info.Stopping, err = nanoseconds("pause.stopping_us", p.Stopping, time.Microsecond)
	return err
}

func (h *recordedHandshake) fill(info *event.HandshakeInfo) error {
	*info = event.HandshakeInfo{
		OK: h.OK, Resumed: h.Resumed, Group: h.Group, Alert: -1, VerifyResult: h.VerifyResult, Reason: h.Reason,
		ServerName: h.ServerName, ALPN: h.ALPN, PeerSPIFFEID: h.PeerSPIFFEID,
	}
	if h.Alert != nil {
		info.Alert = *h.Alert
	}
	var errs [6]error
	info.Library, errs[0] = nameOf("handshake.library", h.Library, event.LibraryUnknown, event.LibraryOpenSSL+1)
	info.Role, errs[1] = nameOf("handshake.role", h.Role, event.RoleUnknown, event.Server+1)
	info.Version, errs[2] = versionNumber(h.Version)
	info.Suite, errs[3] = suiteNumber(h.Suite)
	info.Duration, errs[4] = nanoseconds("handshake.duration_ms", h.Milliseconds, time.Millisecond)
	if h.PeerFingerprint != "" {
		sum, err := hex.DecodeString(h.PeerFingerprint)
		if err != nil || len(sum) != len(info.PeerFingerprint) {
			errs[5] = fmt.Errorf("handshake.peer_sha256: %.80q is not 64 hexadecimal digits", h.PeerFingerprint)
		}
		copy(info.PeerFingerprint[:], sum)
	}
	if !h.PeerNotAfter.IsZero() {
		info.PeerNotAfter = h.PeerNotAfter.Unix()
	}
	info.HasPeer = h.PeerFingerprint != "" || h.PeerSPIFFEID != "" || info.PeerNotAfter != 0
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// nanoseconds turns a duration in units into whole nanoseconds.
func nanoseconds(key string, n float64, unit time.Duration) (uint64, error) {
	const most = 1e18 // thirty years
	ns := math.Round(n * float64(unit))
	if !(ns >= 0 && ns <= most) {
		return 0, fmt.Errorf("%s: %v is no duration", key, n)
	}
	return uint64(ns), nil
}

// versionNumber reads "TLS 1.3", "SSLv3" or 0x0304; "unknown" is 0.
func versionNumber(name string) (uint16, error) {
	for _, v := range []uint16{tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS11, tls.VersionTLS10, 0x0300} {
		if tls.VersionName(v) == name {
			return v, nil
		}
	}
	return number16("handshake.version", name)
}

// suiteNumber reads IANA's name or number of a cipher suite; "unknown" is 0.
func suiteNumber(name string) (uint16, error) {
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if suite.Name == name {
			return suite.ID, nil
		}
	}
	return number16("handshake.suite", name)
}

func number16(key, name string) (uint16, error) {
	if name == "unknown" || name == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(name, 0, 16)
	if err != nil {
		return 0, fmt.Errorf("%s: unknown value %.60q", key, name)
	}
	return uint16(n), nil
}
