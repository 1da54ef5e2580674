package rule

import "strings"

// Facts knows what no event holds. It is asked only by fields that need it, after whatever is cheaper. What it
// does not know, an event does not have. It is called by the goroutine that matches.
type Facts interface {
	User(e *Env, uid uint32) (User, bool)
	Session(e *Env) (Session, bool)
	Container(e *Env) (Container, bool) // asked about containers only
}

// User is an account, by the files of the host or of the container that acted.
type User struct{ Name, Home, Shell string }

// Session is whose the acting process is, beyond its user id.
type Session struct {
	GID      uint32
	Group    string // "": not known
	LoginUID int64  // who logged in; -1: nobody
}

// Container is what is known of a container beside its id; what is not is empty.
type Container struct {
	Name, Runtime           string
	Image, ImageID          string
	Repository, Tag, Digest string
	Pod, Namespace, PodUID  string

	Confined   bool // the next two are known
	Privileged bool
	Mounts     []Mount
}

// Mount is a directory or file of the host, or a volume, in a container.
type Mount struct {
	Source, Dest, Mode, Propagation string
	Writable                        bool
}

// userID is the real user id of who acted.
func userID(e *Env) (int64, bool) {
	if isExec(e.Event) {
		return int64(e.Event.Exec.UID), true
	}
	return int64(e.Event.Process.UID), e.Event.Process.PID != 0
}

// factFields are those that Facts supplies.
func factFields() []field {
	fields := grouped('A',
		ofUser("user.name", func(u User) string { return u.Name }),
		ofSession("user.loginuid", func(s Session) (int64, bool) { return s.LoginUID, true }),
		ofSession("group.gid", func(s Session) (int64, bool) { return int64(s.GID), true }),
		text("user.loginname", allClasses, func(e *Env) string {
			s, ok := session(e)
			if !ok || s.LoginUID < 0 {
				return ""
			}
			u, _ := e.Facts.User(e, uint32(s.LoginUID))
			return u.Name
		}),
		text("group.name", allClasses, func(e *Env) string { s, _ := session(e); return s.Group }),
	)
	fields = append(fields, grouped('D',
		ofContainer("container.image.repository", func(c *Container) string { return c.Repository }),
		ofContainer("k8s.ns.name", func(c *Container) string { return c.Namespace }),
		ofContainer("k8s.pod.name", func(c *Container) string { return c.Pod }),
	)...)
	fields = append(fields,
		ofUser("user.homedir", func(u User) string { return u.Home }),
		ofUser("user.shell", func(u User) string { return u.Shell }),
		ofContainer("container.name", func(c *Container) string { return c.Name }),
		ofContainer("container.type", func(c *Container) string { return c.Runtime }),
		ofContainer("container.image", func(c *Container) string { return c.Image }),
		ofContainer("container.image.id", func(c *Container) string { return c.ImageID }),
		ofContainer("container.image.tag", func(c *Container) string { return c.Tag }),
		ofContainer("container.image.digest", func(c *Container) string { return c.Digest }),
		ofContainer("k8s.pod.uid", func(c *Container) string { return c.PodUID }),
		ofContainer("k8s.pod.id", func(c *Container) string { return c.PodUID }),
	)
	fields = append(fields, mountFields()...)
	for i := range fields {
		fields[i].asks = true
	}
	return append(fields, text("container.full_id", allClasses, func(e *Env) string { return e.Workload.ContainerID }))
}

func ofUser(name string, get func(User) string) field {
	return text(name, allClasses, func(e *Env) string {
		uid, ok := userID(e)
		if e.Facts == nil || !ok {
			return ""
		}
		u, _ := e.Facts.User(e, uint32(uid))
		return get(u)
	})
}

func session(e *Env) (Session, bool) {
	if e.Facts == nil {
		return Session{}, false
	}
	return e.Facts.Session(e)
}

func ofSession(name string, get func(Session) (int64, bool)) field {
	return number(name, allClasses, func(e *Env) (int64, bool) {
		s, ok := session(e)
		if !ok {
			return 0, false
		}
		return get(s)
	})
}

// ofContainer: on the host, name and type are host as the id is, and there is no image.
func ofContainer(name string, get func(*Container) string) field {
	return text(name, allClasses, func(e *Env) string {
		switch {
		case e.Workload.ContainerID == "":
			return get(&Container{Name: "host", Runtime: "host"})
		case e.Facts == nil:
			return ""
		}
		c, _ := e.Facts.Container(e)
		return get(&c)
	})
}

// SplitImage takes the name of an image apart: [registry[:port]/]path[:tag][@digest]. An image that is named
// by its id (sha256:...) has no parts.
func SplitImage(image string) (repository, tag, digest string) {
	if strings.HasPrefix(image, "sha256:") {
		return "", "", ""
	}
	repository, digest, _ = strings.Cut(image, "@")
	if at := strings.LastIndexByte(repository, ':'); at > strings.LastIndexByte(repository, '/') {
		repository, tag = repository[:at], repository[at+1:]
	}
	return repository, tag, digest
}
