package daemonset

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/plumbline-io/plumbline/pkg/agent"
)

const manifest = "plumbline-agent.yaml"

// object has the fields of the Kubernetes API that the manifest uses. A field that is not here fails
// the test: it is new, or it is misspelt.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name, Namespace string
		Labels          map[string]string
	}
	AutomountServiceAccountToken *bool `yaml:"automountServiceAccountToken"`
	Spec                         struct {
		Selector struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		UpdateStrategy map[string]any `yaml:"updateStrategy"`
		Template       struct {
			Metadata struct{ Labels map[string]string }
			Spec     pod
		}
	}
}

type pod struct {
	ServiceAccountName            string `yaml:"serviceAccountName"`
	AutomountServiceAccountToken  *bool  `yaml:"automountServiceAccountToken"`
	HostPID                       bool   `yaml:"hostPID"`
	Tolerations                   []map[string]string
	PriorityClassName             string `yaml:"priorityClassName"`
	TerminationGracePeriodSeconds int    `yaml:"terminationGracePeriodSeconds"`
	Containers                    []container
	Volumes                       []struct {
		Name     string
		HostPath struct{ Path, Type string } `yaml:"hostPath"`
		EmptyDir map[string]string           `yaml:"emptyDir"`
		Secret   struct {
			SecretName  string `yaml:"secretName"`
			DefaultMode int    `yaml:"defaultMode"`
		}
	}
}

type container struct {
	Name, Image string
	Args        []string
	Ports       []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	Env []struct {
		Name      string
		ValueFrom struct {
			FieldRef map[string]string `yaml:"fieldRef"`
		} `yaml:"valueFrom"`
	}
	SecurityContext struct {
		Privileged               *bool
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct{ Drop, Add []string }
		SeccompProfile           map[string]string `yaml:"seccompProfile"`
		AppArmorProfile          map[string]string `yaml:"appArmorProfile"`
		SELinuxOptions           map[string]string `yaml:"seLinuxOptions"`
	} `yaml:"securityContext"`
	Resources    struct{ Requests, Limits map[string]string }
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

func read(t *testing.T) map[string]object {
	t.Helper()
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	objects := map[string]object{}
	for {
		var o object
		err := dec.Decode(&o)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		objects[o.Kind] = o
	}
}

func TestManifest(t *testing.T) {
	objects := read(t)
	if len(objects) != 3 {
		t.Fatalf("%d kinds of objects, want 3", len(objects))
	}
	set := objects["DaemonSet"]
	p := set.Spec.Template.Spec
	for name, ok := range map[string]bool{
		"the set selects its own pods": len(set.Spec.Selector.MatchLabels) > 0 && contains(set.Spec.Template.Metadata.Labels, set.Spec.Selector.MatchLabels),
		"in its namespace":             set.Metadata.Namespace == objects["Namespace"].Metadata.Name,
		"with its account":             p.ServiceAccountName == objects["ServiceAccount"].Metadata.Name,
		"the namespace admits it":      objects["Namespace"].Metadata.Labels["pod-security.kubernetes.io/enforce"] == "privileged",
		"on every node":                slices.ContainsFunc(p.Tolerations, func(t map[string]string) bool { return t["operator"] == "Exists" && t["key"] == "" }),
		"sees every process":           p.HostPID,
		"no token for the API":         p.AutomountServiceAccountToken != nil && !*p.AutomountServiceAccountToken,
		"one container":                len(p.Containers) == 1,
	} {
		if !ok {
			t.Errorf("not true: %s", name)
		}
	}
}

func contains(all, some map[string]string) bool {
	for k, v := range some {
		if all[k] != v {
			return false
		}
	}
	return true
}

func TestContainer(t *testing.T) {
	c := read(t)["DaemonSet"].Spec.Template.Spec.Containers[0]
	s := c.SecurityContext
	for name, ok := range map[string]bool{
		"not privileged":        s.Privileged != nil && !*s.Privileged,
		"no escalation":         s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation,
		"read-only":             s.ReadOnlyRootFilesystem,
		"drops all first":       slices.Equal(s.Capabilities.Drop, []string{"ALL"}),
		"requests memory":       c.Resources.Requests["memory"] != "",
		"memory is limited":     c.Resources.Limits["memory"] != "",
		"the CPU is not":        c.Resources.Limits["cpu"] == "", // a throttled reader loses events
		"reads other processes": s.AppArmorProfile["type"] == "Unconfined" && s.SELinuxOptions["type"] == "spc_t",
	} {
		if !ok {
			t.Errorf("not true: %s", name)
		}
	}
}

func TestVolumes(t *testing.T) {
	p := read(t)["DaemonSet"].Spec.Template.Spec
	mounted := map[string]bool{}
	for _, m := range p.Containers[0].VolumeMounts {
		mounted[m.Name] = true
		pins := m.MountPath == "/sys/fs/bpf"
		if strings.HasPrefix(m.MountPath, "/sys/") && m.ReadOnly == pins {
			t.Errorf("%s: read-only is %t", m.MountPath, m.ReadOnly)
		}
	}
	for _, v := range p.Volumes {
		if !mounted[v.Name] {
			t.Errorf("volume %s is not mounted", v.Name)
		}
		if v.Secret.SecretName != "" && v.Secret.DefaultMode != 0o400 {
			t.Errorf("secret %s has mode %#o", v.Name, v.Secret.DefaultMode)
		}
		delete(mounted, v.Name)
	}
	for name := range mounted {
		t.Errorf("there is no volume %s", name)
	}
}

// The break-glass file is made on the node: it is in a directory of the node that the agent sees under the same
// name, and nothing else is mounted below that, which the read-only mount would not let be.
func TestBreakGlass(t *testing.T) {
	p, name := read(t)["DaemonSet"].Spec.Template.Spec, ""
	dir := filepath.Dir(agent.DefaultBreakGlass)
	for _, m := range p.Containers[0].VolumeMounts {
		switch {
		case m.MountPath == dir && m.ReadOnly:
			name = m.Name
		case strings.HasPrefix(m.MountPath, dir+"/"):
			t.Errorf("%s is mounted below", m.MountPath)
		}
	}
	for _, v := range p.Volumes {
		if v.Name == name && (v.HostPath.Path != dir || v.HostPath.Type != "DirectoryOrCreate") {
			t.Errorf("volume %s is not the node's: %+v", name, v)
		}
	}
	if name == "" {
		t.Error("its directory is not mounted read-only")
	}
}

// A node gives the agent the same rights, whether it is a pod or a unit.
func TestCapabilitiesAreTheUnits(t *testing.T) {
	unit, err := os.ReadFile("../rpm/plumbline-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.*)$`).FindSubmatch(unit)
	if m == nil {
		t.Fatal("the unit has no CapabilityBoundingSet")
	}
	units := strings.Fields(strings.ReplaceAll(string(m[1]), "CAP_", ""))
	pods := read(t)["DaemonSet"].Spec.Template.Spec.Containers[0].SecurityContext.Capabilities.Add
	slices.Sort(units)
	slices.Sort(pods)
	if !slices.Equal(units, pods) {
		t.Errorf("pod %v, unit %v", pods, units)
	}
}

// The program understands its arguments, and every variable in them is set.
func TestArgs(t *testing.T) {
	c := read(t)["DaemonSet"].Spec.Template.Spec.Containers[0]
	program := filepath.Join(t.TempDir(), "agent")
	build := exec.Command("go", "build", "-o", program, "../../cmd/agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(program, append(c.Args, "--help")...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := exec.Command(program, append(c.Args, "--no-such-flag", "--help")...).CombinedOutput(); err == nil {
		t.Errorf("an unknown flag is accepted:\n%s", out)
	}
	set := map[string]bool{}
	for _, e := range c.Env {
		set[e.Name] = e.ValueFrom.FieldRef["fieldPath"] != ""
	}
	for _, m := range regexp.MustCompile(`\$\((\w+)\)`).FindAllStringSubmatch(strings.Join(c.Args, " "), -1) {
		if !set[m[1]] {
			t.Errorf("%s is not set", m[0])
		}
	}
}
