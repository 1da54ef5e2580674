package rule

import "testing"

// contained knows one container.
type contained struct {
	allFacts
	is Container
}

func (c contained) Container(*Env) (Container, bool) { return c.is, true }

func TestMountFields(t *testing.T) {
	e := shell()
	const none = `container.privileged exists or container.mounts exists or container.mount.dest exists or container.mount.source[*] exists`
	holds(t, e, map[string]bool{none: false, `container.privileged = false`: false})
	e.Workload.ContainerID, e.Facts = "c1", contained{}
	holds(t, e, map[string]bool{none: false, `container.mount.dest[/*] != "N/A"`: false})
	e.Facts = contained{is: Container{Confined: true, Privileged: true, Mounts: []Mount{
		{Source: "/proc/1", Dest: "/host/proc", Mode: "ro", Propagation: "rslave"}, {Source: "/srv", Dest: "/data", Mode: "z", Writable: true},
	}}}
	holds(t, e, map[string]bool{
		`container.privileged = true and container.mounts = "/proc/1:/host/proc:ro:false:rslave /srv:/data:z:true:"`:  true,
		`container.mount.dest[/proc*] != "N/A" and container.mount.dest[/proc*] = /host/proc`:                         true,
		`container.mount.dest[/srv] = /data and container.mount.dest["1"] = /data and container.mount.dest[1] exists`: true,
		`container.mount.dest[2] exists or container.mount.dest[-1] exists or container.mount.dest[/data] exists`:     false,
		`container.mount.source[/data] = /srv and container.mount.source[0] = "/proc/1"`:                              true,
		`container.mount[1] = "/srv:/data:z:true:" and container.mount = "/proc/1:/host/proc:ro:false:rslave"`:        true,
		`container.mount.mode[1] = z and container.mount.rdwr[/srv] = true and container.mount.rdwr[0] = false`:       true,
		`container.mount.propagation = rslave and not container.mount.propagation[1] = rslave`:                        true,
		`tolower(container.mount.dest[/srv]) = /data`:                                                                 true,
	})
	e.Facts = contained{is: Container{Confined: true}}
	holds(t, e, map[string]bool{`container.privileged = false and container.mounts = ""`: true, `container.mount exists`: false})
}
