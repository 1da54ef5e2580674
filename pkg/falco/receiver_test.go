package falco

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// receiver starts a Receiver; stop ends it.
func receiver(t *testing.T, handle func(alert.Alert)) (r *Receiver, url string, stop func() error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r = NewReceiver(handle, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, listener) }()
	t.Cleanup(cancel)
	return r, "http://" + listener.Addr().String() + "/", func() error {
		cancel()
		return <-done
	}
}

func post(t *testing.T, url, kind string, body []byte) (code int, answer string) {
	t.Helper()
	res, err := http.Post(url, kind, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// Each recorded alert arrives once; what is none is answered with the reason, and counted.
func TestReceiver(t *testing.T) {
	var rules []string
	r, url, stop := receiver(t, func(a alert.Alert) { rules = append(rules, a.Rule) })
	for _, name := range []string{"terminal_shell", "internal_drop", "k8s_audit"} {
		if code, answer := post(t, url, "application/json", recorded(t, name)); code != http.StatusOK || answer != "" {
			t.Errorf("%s: %d %s", name, code, answer)
		}
	}
	large := append(recorded(t, "k8s_audit"), bytes.Repeat([]byte(" "), MaxBody)...)
	for name, tc := range map[string]struct {
		kind, body string
		code       int
		want       string
	}{
		"text":      {"text/plain", "09:14:51: Notice A shell", http.StatusUnsupportedMediaType, "json_output"},
		"not JSON":  {"application/json", "09:14:51: Notice A shell", http.StatusBadRequest, "byte 1"},
		"no rule":   {"application/json; charset=utf-8", "{}", http.StatusBadRequest, "no rule"},
		"no type":   {"", `{"rule":"r"}`, http.StatusBadRequest, "no time"},
		"too large": {"application/json", string(large), http.StatusRequestEntityTooLarge, "more than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, answer := post(t, url, tc.kind, []byte(tc.body)); code != tc.code || !strings.Contains(answer, tc.want) {
				t.Errorf("got %d %s, want %d %s", code, answer, tc.code, tc.want)
			}
		})
	}
	res, err := http.Get(url)
	if err != nil || res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %+v, %v", res, err)
	}
	_ = res.Body.Close()
	if got := r.Stats(); got.Alerts != 3 || got.Refused != 6 || !strings.Contains(got.LastError, "want POST") {
		t.Errorf("got %+v", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if want := []string{"Terminal shell in container", "Falco internal: syscall event drop", "K8s Deployment Created"}; !slices.Equal(rules, want) {
		t.Errorf("got %q, want %q", rules, want)
	}
}

// The end waits for no peer: neither for one that is silent nor for one that is in the middle.
func TestReceiverEnds(t *testing.T) {
	_, url, stop := receiver(t, func(alert.Alert) {})
	address := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/")
	for _, said := range []string{"", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{"} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := conn.Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	if err := stop(); err != nil || time.Since(begin) > patience {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
}

// Once it has ended, a late request hands nothing on.
func TestReceiverHandsNothingOnAfterItsEnd(t *testing.T) {
	n := 0
	r, _, stop := receiver(t, func(alert.Alert) { n++ })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(recorded(t, "k8s_audit"))))
	if w.Code != http.StatusServiceUnavailable || n != 0 {
		t.Errorf("got %d and %d alerts", w.Code, n)
	}
}
