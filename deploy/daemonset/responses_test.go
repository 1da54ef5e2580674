package daemonset

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What the agent may ask of the API server is what is written down, and no more.
func TestRights(t *testing.T) {
	for file, want := range map[string]string{
		"responses.yaml": "[{[] [pods/eviction] [create]} {[] [pods] [delete]}]",
		"readiness.yaml": "[{[] [pods] [get]}]",
	} {
		t.Run(file, func(t *testing.T) { checkRights(t, file, want) })
	}
}

func checkRights(t *testing.T, file, want string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	type named struct{ Kind, Name, Namespace, APIGroup string }
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var role struct {
		Kind     string
		Metadata struct{ Name string }
		Rules    []struct {
			APIGroups        []string `yaml:"apiGroups"`
			Resources, Verbs []string
		}
	}
	var binding struct {
		Metadata struct{ Name string }
		RoleRef  named `yaml:"roleRef"`
		Subjects []named
	}
	if err := dec.Decode(&role); err != nil {
		t.Fatal(err)
	}
	if err := dec.Decode(&binding); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(role.Rules); got != want {
		t.Error(got)
	}
	account := read(t)["ServiceAccount"].Metadata
	if binding.RoleRef.Kind != role.Kind || binding.RoleRef.Name != role.Metadata.Name ||
		!slices.Equal(binding.Subjects, []named{{Kind: "ServiceAccount", Name: account.Name, Namespace: account.Namespace}}) {
		t.Errorf("%+v", binding)
	}
}

// The patch for readiness gives the pod a token, and changes nothing else.
func TestReadinessPatch(t *testing.T) {
	patch := readPatch(t, "readiness-patch.yaml")
	if token := patch.Spec.Template.Spec.AutomountServiceAccountToken; token == nil || !*token {
		t.Error("the pod gets no token for the API")
	}
	patch.Spec.Template.Spec.AutomountServiceAccountToken = nil
	if !reflect.DeepEqual(patch, object{}) {
		t.Errorf("it changes more: %+v", patch)
	}
}

func readPatch(t *testing.T, file string) (patch object) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&patch); err != nil {
		t.Fatal(err)
	}
	return patch
}

// The patch changes what it has to, and repeats what it replaces.
func TestResponsesPatch(t *testing.T) {
	patch := readPatch(t, "responses-patch.yaml")
	before, after := read(t)["DaemonSet"].Spec.Template.Spec, patch.Spec.Template.Spec
	if token := after.AutomountServiceAccountToken; token == nil || !*token {
		t.Error("the pod gets no token for the API")
	}
	was, is := before.Containers[0], after.Containers[0]
	args := slices.DeleteFunc(slices.Clone(is.Args), func(arg string) bool { return strings.HasPrefix(arg, "--config=") })
	if is.Name != was.Name || !slices.Equal(args, was.Args) || len(is.Args) != len(args)+1 {
		t.Errorf("arguments of %s: %q, of %s: %q", is.Name, is.Args, was.Name, was.Args)
	}
	added := is.SecurityContext.Capabilities
	if want := append(slices.Clone(was.SecurityContext.Capabilities.Add), "KILL"); !slices.Equal(added.Add, want) || !slices.Equal(added.Drop, []string{"ALL"}) {
		t.Errorf("capabilities %v, want %v", added, want)
	}
	for _, m := range is.VolumeMounts {
		for _, other := range was.VolumeMounts {
			if m.Name == "cgroup" && m.Name == other.Name && m.MountPath == other.MountPath && !m.ReadOnly {
				return
			}
		}
	}
	t.Errorf("it may not write to control groups: %+v", is.VolumeMounts)
}
