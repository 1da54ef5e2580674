package output

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// receive serves handler, whose second argument is the number of the request, from 1.
func receive(t *testing.T, handler func(w http.ResponseWriter, r *http.Request, n int64)) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler(w, r, requests.Add(1))
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

// post sends alerts through a queue and returns what became of them.
func post(t *testing.T, cfg HTTPConfig, n int, timeout time.Duration) Stats {
	t.Helper()
	sender, err := NewHTTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	q := New(Config{Sender: sender, Attempts: 4, FirstWait: time.Millisecond, Timeout: timeout})
	stop := start(t, q)
	for range n {
		q.Offer(named("a"))
	}
	for deadline := time.Now().Add(testTimeout); q.Stats().Queued > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %+v", q.Stats())
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	return q.Stats()
}

// One alert is one request whose body is a Falco alert.
func TestHTTPBody(t *testing.T) {
	bodies := make(chan []byte, 1)
	url, _ := receive(t, func(_ http.ResponseWriter, r *http.Request, _ int64) {
		body, err := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/in" || r.Header.Get("Content-Type") != "application/json" || err != nil {
			t.Errorf("%s %s, %q, %v", r.Method, r.URL.Path, r.Header, err)
		}
		bodies <- body
	})
	if got, want := post(t, HTTPConfig{URL: url + "/in"}, 1, testTimeout), (Stats{Sent: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	body := <-bodies
	if _, err := alert.Parse(body); err != nil {
		t.Error(err)
	}
	// What falcosidekick demands.
	var payload struct {
		Priority, Rule string
		Time           time.Time
		Fields         map[string]any `json:"output_fields"`
	}
	if err := json.Unmarshal(body, &payload); err != nil || payload.Priority != "Warning" || payload.Rule != "a" ||
		!payload.Time.Equal(named("a").Time) || len(payload.Fields) == 0 {
		t.Errorf("%v, %s", err, body)
	}
}

func TestHTTPReceivers(t *testing.T) {
	answer := func(code int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { http.Error(w, "reason", code) }
	}
	reset := func(w http.ResponseWriter) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
	for name, tc := range map[string]struct {
		bad      int64 // so many requests meet it, the others are fine
		behave   func(http.ResponseWriter)
		requests int64
		want     Stats
	}{
		"fine":          {0, nil, 3, Stats{Sent: 3}},
		"busy":          {2, answer(http.StatusTooManyRequests), 5, Stats{Sent: 3, Retried: 2}},
		"broken":        {3, answer(http.StatusBadGateway), 6, Stats{Sent: 3, Retried: 3}},
		"broken longer": {5, answer(http.StatusInternalServerError), 7, Stats{Sent: 2, Failed: 1, Retried: 4}},
		"refuses first": {1, answer(http.StatusBadRequest), 3, Stats{Sent: 2, Failed: 1}},
		"refuses":       {3, answer(http.StatusForbidden), 3, Stats{Failed: 3, LastError: `post alert: refused: 403 Forbidden: "reason\n"`}},
		"sends away":    {3, answer(http.StatusPermanentRedirect), 3, Stats{Failed: 3, LastError: `post alert: refused: 308 Permanent Redirect: "reason\n"`}},
		"resets":        {2, reset, 5, Stats{Sent: 3, Retried: 2}},
		"speaks no HTTP": {1, func(w http.ResponseWriter) {
			c, _, _ := w.(http.Hijacker).Hijack()
			_, _ = c.Write([]byte("220 hello\r\n"))
			_ = c.Close()
		}, 4, Stats{Sent: 3, Retried: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			url, requests := receive(t, func(w http.ResponseWriter, r *http.Request, n int64) {
				_, _ = io.Copy(io.Discard, r.Body)
				if n <= tc.bad {
					tc.behave(w)
				}
			})
			if got := post(t, HTTPConfig{URL: url}, 3, testTimeout); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			if got := requests.Load(); got != tc.requests {
				t.Errorf("%d requests, want %d", got, tc.requests)
			}
		})
	}
}

// A receiver that does not answer in time gets the alert again.
func TestHTTPSlow(t *testing.T) {
	url, requests := receive(t, func(_ http.ResponseWriter, r *http.Request, n int64) {
		_, _ = io.Copy(io.Discard, r.Body)
		if n == 1 {
			<-r.Context().Done() // the sender hangs up
		}
	})
	if got, want := post(t, HTTPConfig{URL: url}, 1, time.Second), (Stats{Sent: 1, Retried: 1}); got != want || requests.Load() != 2 {
		t.Errorf("got %+v with %d requests, want %+v", got, requests.Load(), want)
	}
}

func TestHTTPNobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	got := post(t, HTTPConfig{URL: "http://" + address}, 2, testTimeout)
	if !strings.Contains(got.LastError, "connection refused") {
		t.Errorf("got %q", got.LastError)
	}
	got.LastError = ""
	if want := (Stats{Failed: 2, Retried: 6}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestHTTPS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the handshakes that fail on purpose
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := post(t, HTTPConfig{URL: server.URL, CAFile: ca}, 1, testTimeout), (Stats{Sent: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := post(t, HTTPConfig{URL: server.URL}, 1, testTimeout); got.Failed != 1 || !strings.Contains(got.LastError, "unknown authority") {
		t.Errorf("with the system's roots: %+v", got)
	}
}

// What JSON cannot hold is refused: it must not be tried again and again.
func TestHTTPNotEncodable(t *testing.T) {
	sender, err := NewHTTP(HTTPConfig{URL: "http://127.0.0.1:1/"})
	if err != nil {
		t.Fatal(err)
	}
	a := named("a")
	a.Fields["f"] = func() {}
	if err := sender.Send(context.Background(), a); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}

func TestNewHTTP(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		cfg  HTTPConfig
		want string
	}{
		"http":      {HTTPConfig{URL: "http://127.0.0.1:2801/"}, ""},
		"https":     {HTTPConfig{URL: "https://sidekick.example/a?b=c"}, ""},
		"no scheme": {HTTPConfig{URL: "127.0.0.1:2801"}, "not a URL"},
		"nothing":   {HTTPConfig{}, "want http://HOST:PORT/PATH"},
		"no host":   {HTTPConfig{URL: "http:///in"}, "want http://HOST:PORT/PATH"},
		"other":     {HTTPConfig{URL: "ftp://h/"}, `"ftp://h/": want`},
		"secret":    {HTTPConfig{URL: "ftp://u:secret@h/"}, "ftp://u:xxxxx@h/"},
		"no file":   {HTTPConfig{URL: "https://h/", CAFile: empty + "x"}, "read CA file: open"},
		"no PEM":    {HTTPConfig{URL: "https://h/", CAFile: empty}, "no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewHTTP(tc.cfg)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
