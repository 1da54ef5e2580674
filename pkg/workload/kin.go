package workload

import (
	"cmp"
	"strings"
)

// Bounds of the names that containers have in common. What is longer is no name of a runtime.
const (
	maxKin       = 512
	maxNamespace = 63
)

// Kin names what containers have in common that run the same, whatever their ids are: NAMESPACE/CONTAINER@IMAGE in
// Kubernetes, else RUNTIME:/CONTAINER@IMAGE. IMAGE is sha256: and the image's digest or id if the runtime has written that
// down, else the image as it was asked for. Empty: a part of it is not known, or is no name.
func (i Info) Kin() string {
	top, name := i.Runtime+":", i.Name
	if i.Pod+i.Namespace+i.PodUID != "" {
		top, name = i.Namespace, cmp.Or(i.Container, i.Name)
		if len(top) > maxNamespace || !consistsOf(top, lower+digits+"-") {
			return ""
		}
	}
	image := i.Image
	if i.ImageID != "" {
		if image = i.ImageID; len(image) == 64 && consistsOf(image, digits+"abcdef") {
			image = "sha256:" + image
		}
	}
	if !consistsOf(name, letters+digits+"_.-") || !consistsOf(image, letters+digits+"_.-:/@+") {
		return ""
	}
	kin := top + "/" + name + "@" + image
	if len(kin) > maxKin {
		return ""
	}
	return kin
}

// IsKin says whether a name is one that Kin gives. Resolve gives none of these: what has a slash in it begins there with
// one, or with the name of a unit, which has a dot.
func IsKin(name string) bool {
	top, rest, _ := strings.Cut(name, "/")
	return top != "" && !strings.Contains(top, ".") && strings.Contains(rest, "@")
}

const (
	digits  = "0123456789"
	lower   = "abcdefghijklmnopqrstuvwxyz"
	letters = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// consistsOf says whether a text has only these characters, and one at least.
func consistsOf(text, characters string) bool {
	return text != "" && strings.Trim(text, characters) == ""
}
