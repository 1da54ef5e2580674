package workload

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const (
	dockerMounts = `"MountPoints":{"/z":{"Source":"/srv","Destination":"/z","RW":false,"Mode":"ro","Propagation":"rprivate"},` +
		`"/a":{"Source":"/var/run/docker.sock","Destination":"/a","RW":true,"Mode":"","Propagation":"rslave"}}`
	allowAll = `"resources":{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}]}`
	denyAll  = `"resources":{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}]}`
)

// ociBundle is a config.json with as many capabilities, with a part about Linux, and with two bind mounts.
func ociBundle(capabilities int, linux string) string {
	names := make([]string, capabilities)
	for i := range names {
		names[i] = fmt.Sprintf(`"CAP_%d"`, i)
	}
	return `{"annotations":{"nerdctl/name":"x"},"process":{"capabilities":{"bounding":[` + strings.Join(names, ",") + `]}},"mounts":[` +
		`{"destination":"/proc","type":"proc","source":"proc"},` +
		`{"destination":"/host","type":"bind","source":"/","options":["rbind","rslave","ro"]},` +
		`{"destination":"/d","type":"none","source":"/srv","options":["bind","rw"]}],"linux":{` + linux + `}}`
}

func TestConfinement(t *testing.T) {
	id := strings.Repeat("0a", 32)
	dir := "run/containerd/io.containerd.runtime.v2.task/default/" + id
	crio := "run/containers/storage/overlay-containers/" + id + "/userdata"
	docker := "var/lib/docker/containers/" + id
	named := `{"Name":"/shop",` + dockerMounts + `}`
	ofDocker := []Mount{
		{Source: "/var/run/docker.sock", Dest: "/a", Propagation: "rslave", Writable: true},
		{Source: "/srv", Dest: "/z", Mode: "ro", Propagation: "rprivate"},
	}
	ofBundle := []Mount{{Source: "/", Dest: "/host", Mode: "ro", Propagation: "rslave"}, {Source: "/srv", Dest: "/d", Mode: "rw", Writable: true}}
	for name, tc := range map[string]struct {
		files map[string]string
		want  Confinement
	}{
		"docker": {
			map[string]string{docker + "/config.v2.json": named, docker + "/hostconfig.json": `{"Privileged":true}`},
			Confinement{true, true, ofDocker},
		},
		"docker, not privileged": {
			map[string]string{docker + "/config.v2.json": named, docker + "/hostconfig.json": `{"Privileged":false}`},
			Confinement{true, false, ofDocker},
		},
		"docker, which does not say": {
			map[string]string{docker + "/config.v2.json": named, docker + "/hostconfig.json": `{}`, dir + "/config.json": ociBundle(41, allowAll)},
			Confinement{},
		},
		"docker without a file": {map[string]string{docker + "/config.v2.json": named}, Confinement{}},
		"all of it":             {map[string]string{dir + "/config.json": ociBundle(41, allowAll)}, Confinement{true, true, ofBundle}},
		"null":                  {map[string]string{dir + "/config.json": ociBundle(41, allowAll+`,"seccomp":null`)}, Confinement{true, true, ofBundle}},
		"seccomp":               {map[string]string{dir + "/config.json": ociBundle(41, allowAll+`,"seccomp":{}`)}, Confinement{true, false, ofBundle}},
		"a capability less":     {map[string]string{dir + "/config.json": ociBundle(40, allowAll)}, Confinement{true, false, ofBundle}},
		"an older kernel": {
			map[string]string{dir + "/config.json": ociBundle(39, allowAll), "proc/sys/kernel/cap_last_cap": "38\n"},
			Confinement{true, true, ofBundle},
		},
		"what is no number": {
			map[string]string{dir + "/config.json": ociBundle(41, allowAll), "proc/sys/kernel/cap_last_cap": "999\n"},
			Confinement{true, true, ofBundle},
		},
		"some devices": {map[string]string{dir + "/config.json": ociBundle(41, denyAll)}, Confinement{true, false, ofBundle}},
		"no devices":   {map[string]string{dir + "/config.json": ociBundle(41, "")}, Confinement{true, false, ofBundle}},
		"cri-o":        {map[string]string{crio + "/config.json": ociBundle(41, allowAll)}, Confinement{true, true, ofBundle}},
		"no process":   {map[string]string{dir + "/config.json": `{"annotations":{"nerdctl/name":"x"},"linux":{}}`}, Confinement{}},
	} {
		t.Run(name, func(t *testing.T) {
			c := containersBelow(t.TempDir())
			for file, text := range tc.files {
				check(t, os.MkdirAll(filepath.Dir(filepath.Join(c.root, file)), 0o755))
				writeFile(t, filepath.Join(c.root, file), text)
			}
			info, ok := c.Get(id, "", 1)
			if !ok || !reflect.DeepEqual(info.Confinement, tc.want) {
				t.Errorf("%t, got %+v, want %+v", ok, info.Confinement, tc.want)
			}
		})
	}
}

// Podman lists a container before it writes its bundle; what is known of it stays known when both are gone.
func TestConfinementComesLater(t *testing.T) {
	id := strings.Repeat("0a", 32)
	list := "var/lib/containers/storage/overlay-containers/containers.json"
	dir := "run/containers/storage/overlay-containers/" + id + "/userdata"
	c := containersBelow(t.TempDir())
	check(t, os.MkdirAll(filepath.Dir(filepath.Join(c.root, list)), 0o755))
	writeFile(t, filepath.Join(c.root, list), `[{"id":"`+id+`","names":["shop"],"metadata":"{}"}]`)
	if info, ok := c.Get(id, "", 1); !ok || info.Name != "shop" || info.Confinement.Known {
		t.Errorf("%t, %+v", ok, info)
	}
	check(t, os.MkdirAll(filepath.Join(c.root, dir), 0o755))
	writeFile(t, filepath.Join(c.root, dir, "config.json"), ociBundle(41, allowAll))
	if info, _ := c.Get(id, "", 2); info.Confinement.Known {
		t.Error("looked for again at once")
	}
	check(t, os.Remove(filepath.Join(c.root, list)))
	writeFile(t, filepath.Join(c.root, list), `[]`)
	check(t, os.Rename(filepath.Join(c.root, dir), filepath.Join(c.root, "away")))
	if info, ok := c.Get(id, "", 1+uint64(containerPatience)); !ok || info.Name != "shop" {
		t.Errorf("forgotten: %t, %+v", ok, info)
	}
	check(t, os.Rename(filepath.Join(c.root, "away"), filepath.Join(c.root, dir)))
	info, ok := c.Get(id, "", 1+2*uint64(containerPatience))
	if !ok || !info.Confinement.Privileged || info.Runtime != "podman" {
		t.Errorf("%t, %+v", ok, info)
	}
}

func TestDeviceSteps(t *testing.T) {
	major := int64(1)
	for name, tc := range map[string]struct {
		steps []device
		want  bool
	}{
		"a":                {[]device{{Allow: true, Type: "a", Access: "mwr"}}, true},
		"one of them":      {[]device{{Allow: true, Major: &major, Access: "rwm"}}, false},
		"all of a type":    {[]device{{Allow: true, Type: "c", Access: "rwm"}}, false},
		"no mknod":         {[]device{{Allow: true, Access: "rw"}}, false},
		"all but one":      {[]device{{Allow: true, Access: "rwm"}, {Type: "c", Major: &major, Access: "w"}}, false},
		"one more":         {[]device{{Allow: true, Access: "rwm"}, {Allow: true, Type: "c", Access: "w"}}, true},
		"nothing after it": {[]device{{Allow: true, Access: "rwm"}, {Access: "rwm"}}, false},
	} {
		if got := allDevices(tc.steps); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func FuzzConfinement(f *testing.F) {
	f.Add([]byte(`{"Privileged":true}`), []byte(`{`+dockerMounts+`}`))
	f.Add([]byte(ociBundle(3, allowAll)), []byte(ociBundle(41, denyAll+`,"seccomp":{}`)))
	f.Fuzz(func(t *testing.T, host, state []byte) {
		for _, c := range []Confinement{dockerConfinement(host, state), bundleConfinement(host, 40), bundleConfinement(state, 0)} {
			if !c.Known && (c.Privileged || c.Mounts != nil) || len(c.Mounts) > maxMounts {
				t.Errorf("%+v", c)
			}
			for _, m := range c.Mounts {
				if max(len(m.Source), len(m.Dest), len(m.Mode), len(m.Propagation)) > maxStateString {
					t.Errorf("%+v", m)
				}
			}
		}
	})
}
