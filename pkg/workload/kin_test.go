package workload

import (
	"strings"
	"testing"
)

func TestKin(t *testing.T) {
	digest := strings.Repeat("0a", 32)
	pod := Info{Runtime: "containerd", Name: "web", Image: "docker.io/library/nginx:1.27", Pod: "web-7d9-x2x", Namespace: "shop", PodUID: "u-1"}
	changed := func(i Info, change func(*Info)) Info {
		change(&i)
		return i
	}
	docker := Info{Runtime: "docker", Name: "shop-web-1", Image: "nginx:1.27", ImageID: digest}
	for name, tc := range map[string]struct {
		info Info
		want string
	}{
		"a pod":                   {pod, "shop/web@docker.io/library/nginx:1.27"},
		"its next one":            {changed(pod, func(i *Info) { i.Pod, i.PodUID = "web-7d9-y3y", "u-2" }), "shop/web@docker.io/library/nginx:1.27"},
		"with the image's id":     {changed(pod, func(i *Info) { i.ImageID = digest }), "shop/web@sha256:" + digest},
		"with another reference":  {changed(pod, func(i *Info) { i.ImageID = "quay.io/x@sha256:" + digest }), "shop/web@quay.io/x@sha256:" + digest},
		"docker":                  {docker, "docker:/shop-web-1@sha256:" + digest},
		"docker, no id":           {changed(docker, func(i *Info) { i.ImageID = "" }), "docker:/shop-web-1@nginx:1.27"},
		"a pod of docker":         {changed(docker, func(i *Info) { i.Name, i.Container, i.Namespace = "k8s_web_w-1_shop_u-1_0", "web", "shop" }), "shop/web@sha256:" + digest},
		"a pod without namespace": {changed(pod, func(i *Info) { i.Namespace = "" }), ""},
		"no namespace":            {changed(pod, func(i *Info) { i.Namespace = "docker:" }), ""},
		"a unit as namespace":     {changed(pod, func(i *Info) { i.Namespace = "web.service" }), ""},
		"a path as namespace":     {changed(pod, func(i *Info) { i.Namespace = "a/b" }), ""},
		"a sandbox":               {changed(pod, func(i *Info) { i.Name = "" }), ""},
		"no image":                {changed(pod, func(i *Info) { i.Image = "" }), ""},
		"an image in the name":    {changed(pod, func(i *Info) { i.Name = "web@nginx" }), ""},
		"a line in the image":     {changed(pod, func(i *Info) { i.Image = "nginx\n" }), ""},
		"a long image":            {changed(pod, func(i *Info) { i.Image = strings.Repeat("x", maxKin) }), ""},
		"nothing":                 {Info{}, ""},
	} {
		got := tc.info.Kin()
		if got != tc.want || got != "" && !IsKin(got) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// No other workload has a name that containers may have in common.
func FuzzIsKin(f *testing.F) {
	id := strings.Repeat("0a", 32)
	for _, path := range []string{
		"/", "/system.slice/web@a.service", "/system.slice/web@a.service/docker-" + id + ".scope", "/docker:/web@a", "/shop/web@nginx/" + id,
		"/user.slice/user@1.service/x@y.service", "/docker/" + id, "/a.service/b@c",
	} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if w := NewResolver().Resolve(path); IsKin(w.Name) {
			t.Errorf("%q is %s %q", path, w.Kind, w.Name)
		}
	})
}

// What has a name in common can be told apart by it: scope, name and image have no part in each other.
func FuzzKin(f *testing.F) {
	f.Add("web", "", "", "", "nginx:1.27", "")
	f.Add("web", "web", "p", "shop", "docker.io/library/nginx", strings.Repeat("0a", 32))
	f.Fuzz(func(t *testing.T, name, container, pod, namespace, image, imageID string) {
		i := Info{Runtime: "docker", Name: name, Container: container, Pod: pod, Namespace: namespace, Image: image, ImageID: imageID}
		kin := i.Kin()
		if kin == "" {
			return
		}
		top, rest, _ := strings.Cut(kin, "/")
		called, of, _ := strings.Cut(rest, "@")
		if !IsKin(kin) || len(kin) > maxKin || of == "" || pod+namespace == "" && (top != "docker:" || called != name) || pod+namespace != "" && top != namespace {
			t.Errorf("%+v: %q", i, kin)
		}
	})
}
