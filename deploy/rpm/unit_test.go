package rpm

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
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
	for _, call := range []string{"bpf", "perf_event_open", "adjtimex", "fanotify_init", "fanotify_mark"} {
		if !slices.Contains(allowed, call) {
			t.Errorf("the agent may not call %s", call)
		}
	}
	if caps := setting(t, "plumbline.service", "CapabilityBoundingSet"); caps != "" {
		t.Errorf("the control plane has capabilities: %s", caps)
	}
}

// The configuration is valid as it is shipped, and with everything in it that is commented out. Every key stands
// there, those that have a default with that.
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
	if c, err = agent.ReadConfig(all); err != nil {
		t.Fatal(err)
	}
	var defaults agent.Config
	if err := defaults.Complete(); err != nil {
		t.Fatal(err)
	}
	defaults.Node, defaults.PinDir = "", "" // they are of this machine
	compareKeys(t, "", reflect.ValueOf(c), reflect.ValueOf(defaults))
	for _, noSocket := range []bool{false, true} {
		c := c
		c.Scope, c.Rules = nil, nil // this machine need not have them
		if noSocket {
			c.Falco.Socket = ""
		} else {
			c.Falco = agent.FalcoInput{HTTPListen: c.Falco.HTTPListen, Socket: c.Falco.Socket}
		}
		if err := c.Complete(); err != nil {
			t.Errorf("%+v, %v", c, err)
		}
	}
}

// compareKeys tells of keys of the configuration that are not documented, or not with their default.
func compareKeys(t *testing.T, path string, documented, defaults reflect.Value) {
	t.Helper()
	for i := range documented.NumField() {
		key := documented.Type().Field(i).Tag.Get("yaml")
		got, want := documented.Field(i), defaults.Field(i)
		switch {
		case key == "-":
		case got.Kind() == reflect.Struct:
			compareKeys(t, path+key+".", got, want)
		case got.IsZero():
			t.Errorf("%s%s is not documented", path, key)
		case !want.IsZero() && !reflect.DeepEqual(got.Interface(), want.Interface()):
			t.Errorf("%s%s: %v is not its default", path, key, got)
		}
	}
}
