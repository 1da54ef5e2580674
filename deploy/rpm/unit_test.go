package rpm

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/agent"
)

// programs are the units' programs, as `make` builds them.
func programs() map[string]string {
	return map[string]string{"plumbline-agent": "../../cmd/agent", "plumbline": "../../cmd/controlplane"}
}

func build(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-o", file, programs()[name])
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

func setting(t *testing.T, unit, key string) string {
	t.Helper()
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^`+key+`=(.*)$`).FindAllStringSubmatch(string(text), -1)
	if len(m) != 1 {
		t.Fatalf("%s has %d lines %s=, want 1", unit, len(m), key)
	}
	return m[0][1]
}

// The program understands its command line.
func TestExecStart(t *testing.T) {
	for name := range programs() {
		t.Run(name, func(t *testing.T) {
			args := strings.Fields(setting(t, name+".service", "ExecStart"))
			if args[0] != "/usr/bin/"+name {
				t.Errorf("starts %s", args[0])
			}
			file := build(t, name)
			if out, err := exec.Command(file, append(args[1:], "--help")...).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// systemd knows every directive.
func TestVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	for name := range programs() {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(name + ".service")
			if err != nil {
				t.Fatal(err)
			}
			// systemd-analyze wants the program to be there.
			unit := filepath.Join(t.TempDir(), name+".service")
			text = []byte(strings.ReplaceAll(string(text), "/usr/bin/"+name+" ", "/bin/true "))
			if err := os.WriteFile(unit, text, 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput()
			if err != nil || strings.Contains(string(out), unit) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// A wrong configuration is not tried again and again, and nothing is readable for others.
func TestUnits(t *testing.T) {
	for name := range programs() {
		for key, want := range map[string]string{
			"RestartPreventExitStatus": "2", "Restart": "on-failure", "UMask": "0077", "ProtectSystem": "strict",
			"NoNewPrivileges": "yes", "MemoryDenyWriteExecute": "yes", "StateDirectoryMode": "0700",
		} {
			if got := setting(t, name+".service", key); got != want {
				t.Errorf("%s: %s=%s, want %s", name, key, got, want)
			}
		}
	}
	allowed := strings.Fields(setting(t, "plumbline-agent.service", "SystemCallFilter"))
	for _, call := range []string{"bpf", "perf_event_open"} {
		if !slices.Contains(allowed, call) {
			t.Errorf("the agent may not call %s", call)
		}
	}
	if caps := setting(t, "plumbline.service", "CapabilityBoundingSet"); caps != "" {
		t.Errorf("the control plane has capabilities: %s", caps)
	}
}

// The configuration is valid as it is shipped, and with everything in it that is commented out.
func TestConfig(t *testing.T) {
	c, err := agent.ReadConfig("agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Complete(); err != nil || c.Mode != "learn" {
		t.Errorf("mode %s, %v", c.Mode, err)
	}
	text, err := os.ReadFile("agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := filepath.Join(t.TempDir(), "all.yaml")
	text = regexp.MustCompile(`(?m)^# (\s*[a-z_]+:( .*)?)$`).ReplaceAll(text, []byte("$1"))
	if err := os.WriteFile(all, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = agent.ReadConfig(all); err != nil || len(c.Scope) != 1 || c.ControlPlane.URL == "" || c.ControlPlane.PasswordFile == "" {
		t.Errorf("%+v, %v", c, err)
	}
	c.Scope = nil // this machine need not have it
	if err := c.Complete(); err != nil || c.AlertsHTTPCA == "" || c.AlertsSyslog == "" || c.FalcoSocket == "" || c.Falco.HTTPListen == "" || c.Falco.Socket == "" {
		t.Errorf("%+v, %v", c, err)
	}
}
