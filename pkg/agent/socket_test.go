package agent

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListenSocket(t *testing.T) {
	for name, tc := range map[string]struct {
		before func(t *testing.T, path string)
		want   string // "": it listens
	}{
		"new": {func(*testing.T, string) {}, ""},
		"stale": {func(t *testing.T, path string) {
			l := listenAt(t, path)
			l.SetUnlinkOnClose(false) // as after a kill
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}, ""},
		"in use": {func(t *testing.T, path string) {
			l := listenAt(t, path)
			t.Cleanup(func() { _ = l.Close() })
		}, "another agent answers there"},
		"a file": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is no socket"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agent.sock")
			tc.before(t, path)
			listener, err := listenSocket(path)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				if _, err := os.Lstat(path); err != nil {
					t.Error("it was removed:", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
			if err := listener.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				t.Errorf("it stays: %v", err)
			}
		})
	}
}

func listenAt(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return l.(*net.UnixListener)
}
