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
// could make the caller wait. Get is for one goroutine, Find for any.
type Containers struct {
	root    string
	storage *storage
	known   map[string]*containerFile
	order   []string
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
	return containersBelow(root)
}

func containersBelow(root string) *Containers {
	return &Containers{
		root: root, known: map[string]*containerFile{},
		storage: &storage{file: filepath.Join(root, "var/lib/containers/storage/overlay-containers/containers.json")},
	}
}

// Get tells what is known of a container, of whose pod the path of its cgroup has podUID. now are nanoseconds of any clock that goes
// forward.
func (c *Containers) Get(id, podUID string, now uint64) (Info, bool) {
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
		f.info, f.found = c.Find(id, podUID)
	}
	return f.info, f.found
}

// Find looks where the runtimes keep their state, and remembers nothing of the container. See Get.
func (c *Containers) Find(id, podUID string) (Info, bool) {
	if !isContainerID(id) {
		return Info{}, false // it becomes a part of a path
	}
	for _, look := range []func(id string) (Info, bool){c.ofDaemons, c.storage.Find, c.ofStorage} {
		if info, ok := look(id); ok {
			if info.Runtime == "docker" && (podUID == "" || info.PodUID != podUID) {
				info.leavePod()
			}
			info.Confinement = c.confinement(id, info.Runtime)
			return info, true
		}
	}
	return Info{}, false
}

func isContainerID(id string) bool { return len(id) == 64 && consistsOf(id, digits+"abcdef") }

// place is a state file, and what reads it.
type place struct {
	file string
	read func(data []byte) (Info, bool)
}

func (c *Containers) ofDaemons(id string) (Info, bool) {
	return c.read(
		place{"var/lib/docker/containers/" + id + "/config.v2.json", readDocker},
		place{"run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id + "/config.json", readBundle("containerd")},
		place{"run/containerd/io.containerd.runtime.v2.task/default/" + id + "/config.json", readBundle("containerd")},
	)
}

// ofStorage reads the bundles that CRI-O keeps with its storage.
func (c *Containers) ofStorage(id string) (Info, bool) {
	return c.read(
		place{"run/containers/storage/overlay-containers/" + id + "/userdata/config.json", readBundle("cri-o")},
		place{"var/lib/containers/storage/overlay-containers/" + id + "/userdata/config.json", readBundle("cri-o")},
	)
}

// read takes the first of the places that tells anything.
func (c *Containers) read(places ...place) (Info, bool) {
	for _, p := range places {
		data, err := readBounded(filepath.Join(c.root, p.file), maxStateBytes)
		if err != nil {
			continue
		}
		if info, ok := p.read(data); ok {
			info.bound()
			return info, true
		}
	}
	return Info{}, false
}

// readDocker reads Docker's config.v2.json.
func readDocker(data []byte) (Info, bool) {
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
func readBundle(runtime string) func([]byte) (Info, bool) {
	return func(data []byte) (Info, bool) {
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

// leavePod forgets of which pod a container is: labels of Docker are what its user wants, and where the kubelet has the container
// made is not.
func (i *Info) leavePod() { i.Container, i.Pod, i.Namespace, i.PodUID = "", "", "", "" }

// bound cuts and copies the texts: a file is large, and Docker lets users name what they want.
func (i *Info) bound() {
	for _, s := range []*string{&i.Name, &i.Container, &i.Image, &i.ImageID, &i.Pod, &i.Namespace, &i.PodUID} {
		*s = cut(*s)
	}
	i.ImageID = strings.TrimPrefix(i.ImageID, "sha256:")
}

func cut(s string) string { return strings.Clone(s[:min(len(s), maxStateString)]) }
