package baseline

import (
	"time"

	"go.yaml.in/yaml/v3"
)

// moment is a time in little room, which counts with many entries: nanoseconds since 1970, 0 if it is not known.
type moment int64

func momentOf(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	return moment(t.UnixNano())
}

// Time is in UTC.
func (m moment) Time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(m)).UTC()
}

// moment reads a time from 1970 to 2261.
func (r *reader) moment(n *yaml.Node) moment {
	var t time.Time
	r.decode(n, &t)
	if year := t.UTC().Year(); r.err == nil && !t.IsZero() && (year < 1970 || year > 2261) {
		r.fail(n, "%.60q is no time from 1970 to 2261", n.Value)
		return 0
	}
	return momentOf(t)
}
