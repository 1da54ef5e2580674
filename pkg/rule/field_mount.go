package rule

import "strconv"

// confined asks for a container whose privileges and mounts are known.
func confined(e *Env) (Container, bool) {
	if e.Workload.ContainerID == "" || e.Facts == nil {
		return Container{}, false
	}
	c, ok := e.Facts.Container(e)
	return c, ok && c.Confined
}

// mountFields are about the confinement of a container. In brackets stands which mount is meant: its number, or
// its source with wildcards; for container.mount.source the destination.
func mountFields() []field {
	privileged := field{name: "container.privileged", classes: allClasses, flag: func(e *Env) (bool, bool) {
		c, ok := confined(e)
		return c.Privileged, ok
	}}
	mounts := field{name: "container.mounts", classes: allClasses, writes: true, text: func(e *Env) (string, bool) {
		c, ok := confined(e)
		from := len(e.text)
		for i := range c.Mounts {
			if i > 0 {
				e.text = append(e.text, ' ')
			}
			e.text = c.Mounts[i].append(e.text)
		}
		return e.since(from), ok
	}}
	bySource := func(m *Mount) string { return m.Source }
	byDest := func(m *Mount) string { return m.Dest }
	one := mountField("container.mount", bySource, func(e *Env, m *Mount) string {
		from := len(e.text)
		e.text = m.append(e.text)
		return e.since(from)
	})
	one.writes = true
	fields := grouped('E', privileged, mounts, mountField("container.mount.dest", bySource, func(_ *Env, m *Mount) string { return m.Dest }))
	return append(fields, one,
		mountField("container.mount.source", byDest, func(_ *Env, m *Mount) string { return m.Source }),
		mountField("container.mount.mode", bySource, func(_ *Env, m *Mount) string { return m.Mode }),
		mountField("container.mount.rdwr", bySource, func(_ *Env, m *Mount) string { return strconv.FormatBool(m.Writable) }),
		mountField("container.mount.propagation", bySource, func(_ *Env, m *Mount) string { return m.Propagation }),
	)
}

// mountField is about one mount: without brackets the first one.
func mountField(name string, by func(*Mount) string, get func(*Env, *Mount) string) field {
	keyed := func(key string) func(*Env) (string, bool) {
		n, err := strconv.Atoi(key)
		if err == nil {
			return func(e *Env) (string, bool) {
				c, ok := confined(e)
				if !ok || n < 0 || n >= len(c.Mounts) {
					return "", false
				}
				return get(e, &c.Mounts[n]), true
			}
		}
		return func(e *Env) (string, bool) {
			c, ok := confined(e)
			for i := range c.Mounts {
				if m := &c.Mounts[i]; ok && glob(key, by(m), false) {
					return get(e, m), true
				}
			}
			return "", false
		}
	}
	return field{name: name, classes: allClasses, takes: aKey, text: keyed("0"), keyed: keyed}
}

// append writes the mount in Falco's form.
func (m *Mount) append(dst []byte) []byte {
	for _, s := range []string{m.Source, m.Dest, m.Mode} {
		dst = append(append(dst, s...), ':')
	}
	return append(append(strconv.AppendBool(dst, m.Writable), ':'), m.Propagation...)
}
