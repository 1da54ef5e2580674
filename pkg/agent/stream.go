package agent

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// streamBuffer is how many events a slow reader may be behind before it misses some.
const streamBuffer = 1024

// stream hands events to whoever follows them through the socket. Without followers it costs one
// atomic load for each event.
type stream struct {
	count atomic.Int32
	mu    sync.Mutex
	subs  map[chan []byte]*atomic.Uint64
}

func newStream() *stream { return &stream{subs: map[chan []byte]*atomic.Uint64{}} }

// Subscribe returns a channel of JSON lines and a function that ends it. missed counts what did not
// fit.
func (s *stream) Subscribe() (lines <-chan []byte, missed *atomic.Uint64, end func()) {
	c, missed := make(chan []byte, streamBuffer), new(atomic.Uint64)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[c] = missed
	s.count.Add(1)
	return c, missed, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, c)
		s.count.Add(-1)
	}
}

// Active says whether anybody follows.
func (s *stream) Active() bool { return s.count.Load() > 0 }

// Publish gives an event to the followers. It never blocks.
func (s *stream) Publish(ev *event.Event, w *detect.Subject, at time.Time) {
	line, err := json.Marshal(viewOf(ev, w, at))
	if err != nil {
		return // cannot happen: the view has only plain fields
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, missed := range s.subs {
		select {
		case c <- line:
		default:
			missed.Add(1)
		}
	}
}

// View is an event as `plumbline-agent events` prints it.
type View struct {
	Time     time.Time `json:"time"`
	Kind     string    `json:"kind"`
	Verdict  string    `json:"verdict"`
	Hook     string    `json:"hook"`
	Workload string    `json:"workload,omitempty"`
	PID      uint32    `json:"pid"`
	Exe      string    `json:"exe,omitempty"`
	Missed   uint64    `json:"missed,omitempty"` // events that the reader was too slow for

	// What rules can ask of who acted: rule.ParseEvent reads it back.
	WorkloadKind string         `json:"workload_kind,omitempty"`
	ContainerID  string         `json:"container_id,omitempty"`
	SPIFFEID     string         `json:"spiffe_id,omitempty"`
	Process      *event.Process `json:"process,omitempty"`

	Fork      *event.ForkInfo   `json:"fork,omitempty"`
	Exec      *event.ExecInfo   `json:"exec,omitempty"`
	Access    *event.AccessInfo `json:"access,omitempty"`
	Key       string            `json:"key,omitempty"` // of the access, in words
	Exit      *event.ExitInfo   `json:"exit,omitempty"`
	Handshake *HandshakeView    `json:"handshake,omitempty"`
	Pause     *PauseView        `json:"pause,omitempty"`
	Cgroup    string            `json:"cgroup,omitempty"`
}

// HandshakeView is one TLS handshake in the names of the standards.
type HandshakeView struct {
	Library         string  `json:"library"`
	Role            string  `json:"role"`
	OK              bool    `json:"ok"`
	Resumed         bool    `json:"resumed"`
	Version         string  `json:"version"`
	Suite           string  `json:"suite"`
	Group           uint16  `json:"group,omitempty"`
	Alert           *int16  `json:"alert,omitempty"`         // nil: none
	VerifyResult    int32   `json:"verify_result,omitempty"` // X509_V_*
	Reason          uint32  `json:"reason,omitempty"`        // of OpenSSL
	ServerName      string  `json:"server_name,omitempty"`
	ALPN            string  `json:"alpn,omitempty"`
	PeerFingerprint string  `json:"peer_sha256,omitempty"`
	PeerSPIFFEID    string  `json:"peer_spiffe_id,omitempty"`
	PeerNotAfter    string  `json:"peer_not_after,omitempty"`
	Milliseconds    float64 `json:"duration_ms"`
}

// PauseView is one stop-the-world pause.
type PauseView struct {
	GC           bool    `json:"gc"`
	Reason       uint8   `json:"reason"`
	Microseconds float64 `json:"total_us"`
	Stopping     float64 `json:"stopping_us"`
}

func viewOf(ev *event.Event, w *detect.Subject, at time.Time) View {
	v := View{
		Time: at, Kind: ev.Kind.String(), Verdict: ev.Verdict.String(), Hook: ev.Hook.String(),
		Workload: w.Name, PID: ev.Tgid, Exe: ev.Process.Path,
		WorkloadKind: w.Kind, ContainerID: w.ContainerID, SPIFFEID: w.SPIFFEID, Process: &ev.Process,
	}
	switch ev.Kind {
	case event.Fork:
		v.Fork = &ev.Fork
	case event.Exec, event.ExecCheck:
		v.Exec = &ev.Exec
	case event.Access:
		v.Access, v.Key = &ev.Access, ev.Access.Key.String()
	case event.Exit:
		v.Exit = &ev.Exit
	case event.Handshake:
		v.Handshake = handshakeView(&ev.Handshake)
	case event.Pause:
		v.Pause = &PauseView{
			GC: ev.Pause.GC, Reason: ev.Pause.Reason,
			Microseconds: float64(ev.Pause.Total) / 1e3, Stopping: float64(ev.Pause.Stopping) / 1e3,
		}
	case event.Cgroup:
		v.Cgroup = ev.Cgroup.Path
	}
	return v
}

func handshakeView(h *event.HandshakeInfo) *HandshakeView {
	v := &HandshakeView{
		Library: h.Library.String(), Role: h.Role.String(), OK: h.OK, Resumed: h.Resumed,
		Version: versionName(h.Version), Suite: suiteName(h.Suite),
		Group: h.Group, VerifyResult: h.VerifyResult, Reason: h.Reason,
		ServerName: h.ServerName, ALPN: h.ALPN, PeerSPIFFEID: h.PeerSPIFFEID,
		Milliseconds: float64(h.Duration) / 1e6,
	}
	if h.Alert >= 0 {
		v.Alert = &h.Alert
	}
	if h.HasPeer && h.PeerFingerprint != [32]byte{} {
		v.PeerFingerprint = hex.EncodeToString(h.PeerFingerprint[:])
	}
	if h.PeerNotAfter != 0 {
		v.PeerNotAfter = time.Unix(h.PeerNotAfter, 0).UTC().Format(time.RFC3339)
	}
	return v
}

// Text is the event as one line for people.
func (v View) Text() string {
	head := fmt.Sprintf("%s %-9s %s[%d]", v.Time.Format("15:04:05.000"), v.Kind, v.Exe, v.PID)
	switch {
	case v.Missed > 0:
		return fmt.Sprintf("missed %d events: they came faster than they were read", v.Missed)
	case v.Handshake != nil:
		return head + " " + v.Handshake.text()
	case v.Pause != nil:
		what := "stop-the-world"
		if v.Pause.GC {
			what = "garbage collector"
		}
		return fmt.Sprintf("%s %s pause of %.1f us", head, what, v.Pause.Microseconds)
	case v.Exec != nil:
		return fmt.Sprintf("%s %s %s (%s, %s)", head, v.Exec.Path, v.Exec.Args, v.Verdict, v.Hook)
	case v.Exit != nil && v.Exit.Signal != 0:
		return fmt.Sprintf("%s by signal %d", head, v.Exit.Signal)
	case v.Exit != nil:
		return fmt.Sprintf("%s status %d", head, v.Exit.Code)
	case v.Access != nil:
		return fmt.Sprintf("%s %s (%s, %s)", head, v.Access.Key, v.Verdict, v.Hook)
	case v.Fork != nil:
		return fmt.Sprintf("%s child %d", head, v.Fork.Child)
	default:
		return head + " " + v.Cgroup
	}
}

func (h *HandshakeView) text() string {
	s := fmt.Sprintf("%s %s %s %s", h.Library, h.Role, h.Version, h.Suite)
	if !h.OK {
		s += " FAILED"
	}
	for _, part := range []struct{ name, value string }{
		{"sni", h.ServerName}, {"alpn", h.ALPN}, {"peer", h.PeerFingerprint}, {"peer-id", h.PeerSPIFFEID},
	} {
		if part.value != "" {
			s += " " + part.name + "=" + part.value
		}
	}
	return fmt.Sprintf("%s %.2f ms", s, h.Milliseconds)
}
