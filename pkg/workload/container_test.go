package workload

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const (
	dockerState = `{"ID":"x","Name":"/shop","Image":"sha256:0123","Config":{"Image":"nginx:1.27","Labels":{"io.kubernetes.pod.name":"p","io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"u-1","io.kubernetes.container.name":"c"}}}`
	containerd  = `{"annotations":{"io.kubernetes.cri.container-name":"web","io.kubernetes.cri.image-name":"docker.io/library/nginx:1.27","io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"shop","io.kubernetes.cri.sandbox-uid":"u-1"}}`
	crio        = `{"annotations":{"io.kubernetes.container.name":"web","io.kubernetes.cri-o.ImageName":"quay.io/x:2","io.kubernetes.cri-o.ImageRef":"4567","io.kubernetes.pod.name":"web-0","io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"u-1"}}`
	nerdctl     = `{"annotations":{"nerdctl/name":"tool"}}`
	docker      = `{"annotations":{"other":"x"}}`
)

func TestContainers(t *testing.T) {
	id := strings.Repeat("0a", 32)
	bundle := func(namespace string) string {
		return "run/containerd/io.containerd.runtime.v2.task/" + namespace + "/" + id + "/config.json"
	}
	podman := `[{"id":"other","names":["no"]},{"id":"` + strings.Repeat("0b", 32) + `","names":["no"],"metadata":"{}"},{"id":"` + id + `","names":["shop"],"image":"89ab","metadata":"{\"image-name\":\"localhost:5000/shop:3\",\"name\":\"shop\"}"}]`
	ofCRIO := `[{"id":"` + id + `","names":["k8s_web"],"image":"4567","metadata":"{\"pod-id\":\"1\",\"image-name\":\"quay.io/x:2\"}"}]`
	const storage = "var/lib/containers/storage/overlay-containers/containers.json"
	// By the path of its cgroup. Of the others' labels, nobody is asked.
	pods := map[string]string{"docker": "u-1", "docker, with another pod's labels": "u-2"}
	labelled := Info{Runtime: "docker", Name: "shop", Image: "nginx:1.27", ImageID: "0123"}
	const config = "/config.v2.json"
	for name, tc := range map[string]struct {
		files map[string]string
		want  Info // empty: not known
	}{
		"docker": {
			map[string]string{"var/lib/docker/containers/" + id + "/config.v2.json": dockerState, bundle("moby"): docker},
			Info{Runtime: "docker", Name: "shop", Image: "nginx:1.27", ImageID: "0123", Pod: "p", Namespace: "shop", PodUID: "u-1", Container: "c"},
		},
		"docker, with a pod's labels":       {map[string]string{"var/lib/docker/containers/" + id + config: dockerState}, labelled},
		"docker, with another pod's labels": {map[string]string{"var/lib/docker/containers/" + id + config: dockerState}, labelled},
		"containerd": {
			map[string]string{bundle("k8s.io"): containerd},
			Info{Runtime: "containerd", Name: "web", Image: "docker.io/library/nginx:1.27", Pod: "web-0", Namespace: "shop", PodUID: "u-1"},
		},
		"nerdctl": {map[string]string{bundle("default"): nerdctl}, Info{Runtime: "containerd", Name: "tool"}},
		"cri-o": {
			map[string]string{"run/containers/storage/overlay-containers/" + id + "/userdata/config.json": crio, storage: ofCRIO},
			Info{Runtime: "cri-o", Name: "web", Image: "quay.io/x:2", ImageID: "4567", Pod: "web-0", Namespace: "shop", PodUID: "u-1"},
		},
		"podman":             {map[string]string{storage: podman}, Info{Runtime: "podman", Name: "shop", Image: "localhost:5000/shop:3", ImageID: "89ab"}},
		"nothing":            {nil, Info{}},
		"without a name":     {map[string]string{bundle("k8s.io"): docker}, Info{}},
		"not JSON":           {map[string]string{bundle("k8s.io"): "{", storage: "[", "var/lib/docker/containers/" + id + "/config.v2.json": "0"}, Info{}},
		"a very long answer": {map[string]string{bundle("default"): `{"annotations":{"nerdctl/name":"` + strings.Repeat("x", 5000) + `"}}`}, Info{Runtime: "containerd", Name: strings.Repeat("x", maxStateString)}},
	} {
		t.Run(name, func(t *testing.T) {
			c := containersBelow(t.TempDir())
			if _, ok := c.Get(id, pods[name], 1); ok {
				t.Error("known before anything is there")
			}
			for file, text := range tc.files {
				check(t, os.MkdirAll(filepath.Dir(filepath.Join(c.root, file)), 0o755))
				writeFile(t, filepath.Join(c.root, file), text)
			}
			if _, ok := c.Get(id, pods[name], 2); ok {
				t.Error("looked for again at once")
			}
			got, ok := c.Get(id, pods[name], 2+uint64(containerPatience))
			if !reflect.DeepEqual(got, tc.want) || ok != (tc.want.Runtime != "") {
				t.Errorf("got %+v, %t, want %+v", got, ok, tc.want)
			}
		})
	}
}

// An id is a part of a path: what is none is not looked for.
func TestContainerIDs(t *testing.T) {
	c := NewContainers()
	for _, id := range []string{"", "../../../etc/passwd", strings.Repeat("g", 64), strings.Repeat("A", 64)} {
		if _, ok := c.Find(id, ""); ok {
			t.Errorf("%q is found", id)
		}
	}
	for i := range 3 * maxContainers {
		c.Get(string(rune('a'+i%26))+strings.Repeat("0", i), "", 0)
	}
	if len(c.known) != maxContainers || len(c.order) != maxContainers {
		t.Errorf("%d known, %d in order", len(c.known), len(c.order))
	}
}

func FuzzContainerState(f *testing.F) {
	id := strings.Repeat("0a", 32)
	for _, text := range []string{dockerState, containerd, crio, nerdctl, `[{"id":"` + id + `","names":["a"],"metadata":"{}"}]`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, read := range []func([]byte) (Info, bool){readDocker, readBundle("x")} {
			if info, ok := read(data); ok && info.Runtime == "" {
				t.Errorf("%+v", info)
			}
		}
		for id, info := range readStorage(data) {
			if !isContainerID(id) || info.Runtime == "" || len(info.Name) > maxStateString {
				t.Errorf("%q: %+v", id, info)
			}
		}
	})
}
