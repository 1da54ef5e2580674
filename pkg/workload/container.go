package workload

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Info is what a runtime has written down about a container. What it has not is empty.
type Info struct {
	Runtime                string // docker, containerd, cri-o or podman
	Name                   string
	Container              string // its name in its pod, where Name is another
	Image                  string // as it was asked for: docker.io/library/nginx:1.27
	ImageID                string // without sha256:
	Pod, Namespace, PodUID string // of Kubernetes
	Confinement            Confinement
}

// Containers reads the state files of container runtimes, which only root may write. It asks no runtime: that
// could make the caller wait. It is for one goroutine.
type Containers struct {
	root  string
	known map[string]*containerFile
	order []string
}

type containerFile struct {
	info  Info
	found bool
	asked uint64
}

// Bounds of what is kept and read.
const (
	maxContainers  = 1024 // the one that was asked for first is forgotten first
	maxStateBytes  = 4 << 20
	maxStateString = 1024
)

// containerPatience is how long after a search that did not find everything the next one begins: a file may come.
const containerPatience = 2 * time.Second

// NewContainers reads below the root of the host: that of process 1, so that an agent in a container of its own
// finds the files too; its own root, if it may not look there.
func NewContainers() *Containers {
	root := "/proc/1/root"
	if _, err := os.Stat(root + "/run"); err != nil {
		root = "/"
	}
	return &Containers{root: root, known: map[string]*containerFile{}}
}

// Get tells what is known of a container. now are nanoseconds of any clock that goes forward.
func (c *Containers) Get(id string, now uint64) (Info, bool) {
	f := c.known[id]
	if f == nil {
		if len(c.order) == maxContainers {
			delete(c.known, c.order[0])
			c.order = append(c.order[:0], c.order[1:]...)
		}
		f = &containerFile{}
		c.known[id] = f
		c.order = append(c.order, id)
	} else if f.found && f.info.Confinement.Known || now-f.asked < uint64(containerPatience) {
		return f.info, f.found
	}
	f.asked = now
	if f.found {
		f.info.Confinement = c.confinement(id, f.info.Runtime)
	} else {
		f.info, f.found = c.find(id)
	}
	return f.info, f.found
}

// find looks where the runtimes keep their state.
func (c *Containers) find(id string) (Info, bool) {
	if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return Info{}, false // it becomes a part of a path
	}
	for _, place := range []struct {
		file string
		read func(data []byte, id string) (Info, bool)
	}{
		{"var/lib/docker/containers/" + id + "/config.v2.json", readDocker},
		{"run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id + "/config.json", readBundle("containerd")},
		{"run/containerd/io.containerd.runtime.v2.task/default/" + id + "/config.json", readBundle("containerd")},
		{"var/lib/containers/storage/overlay-containers/containers.json", readStorage},
		{"run/containers/storage/overlay-containers/" + id + "/userdata/config.json", readBundle("cri-o")},
		{"var/lib/containers/storage/overlay-containers/" + id + "/userdata/config.json", readBundle("cri-o")},
	} {
		data, err := readBounded(filepath.Join(c.root, place.file), maxStateBytes)
		if err != nil {
			continue
		}
		if info, ok := place.read(data, id); ok {
			info.bound()
			info.Confinement = c.confinement(id, info.Runtime)
			return info, true
		}
	}
	return Info{}, false
}

// readDocker reads Docker's config.v2.json.
func readDocker(data []byte, _ string) (Info, bool) {
	var state struct {
		Name   string
		Image  string
		Config struct {
			Image  string
			Labels map[string]string
		}
	}
	if json.Unmarshal(data, &state) != nil || state.Name == "" {
		return Info{}, false
	}
	label := state.Config.Labels
	return Info{
		Runtime: "docker", Name: strings.TrimPrefix(state.Name, "/"), Image: state.Config.Image, ImageID: state.Image,
		Pod: label["io.kubernetes.pod.name"], Namespace: label["io.kubernetes.pod.namespace"], PodUID: label["io.kubernetes.pod.uid"],
		Container: label["io.kubernetes.container.name"],
	}, true
}

// readBundle reads the annotations of an OCI runtime bundle's config.json, by the names of containerd, nerdctl
// and CRI-O. Without any of them, others may know more.
func readBundle(runtime string) func([]byte, string) (Info, bool) {
	return func(data []byte, _ string) (Info, bool) {
		var bundle struct{ Annotations map[string]string }
		if json.Unmarshal(data, &bundle) != nil {
			return Info{}, false
		}
		first := func(names ...string) string {
			for _, name := range names {
				if v := bundle.Annotations[name]; v != "" {
					return v
				}
			}
			return ""
		}
		info := Info{
			Runtime:   runtime,
			Name:      first("io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"),
			Image:     first("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image"),
			ImageID:   first("io.kubernetes.cri-o.ImageRef"),
			Pod:       first("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"),
			Namespace: first("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"),
			PodUID:    first("io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"),
		}
		return info, info.Name+info.Image+info.ImageID+info.Pod+info.Namespace+info.PodUID != ""
	}
}

// readStorage reads the list of containers that Podman keeps with its storage.
func readStorage(data []byte, id string) (Info, bool) {
	var list []struct {
		ID       string
		Names    []string
		Image    string
		Metadata string
	}
	if json.Unmarshal(data, &list) != nil {
		return Info{}, false
	}
	for _, c := range list {
		if c.ID != id || strings.Contains(c.Metadata, `"pod-id"`) {
			continue // CRI-O keeps its containers there too, and its bundles know more
		}
		var meta struct {
			Image string `json:"image-name"`
		}
		if json.Unmarshal([]byte(c.Metadata), &meta) != nil || len(c.Names) == 0 {
			return Info{}, false
		}
		return Info{Runtime: "podman", Name: c.Names[0], Image: meta.Image, ImageID: c.Image}, true
	}
	return Info{}, false
}

// bound cuts and copies the texts: a file is large, and Docker lets users name what they want.
func (i *Info) bound() {
	for _, s := range []*string{&i.Name, &i.Container, &i.Image, &i.ImageID, &i.Pod, &i.Namespace, &i.PodUID} {
		*s = cut(*s)
	}
	i.ImageID = strings.TrimPrefix(i.ImageID, "sha256:")
}

func cut(s string) string { return strings.Clone(s[:min(len(s), maxStateString)]) }
