package baseline

import (
	"math"
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

// second is a time as it is written, in half the room: seconds since 1970, 0 if it is not known.
type second uint32

// secondOf knows no time before 1970 and none after 2105.
func secondOf(t time.Time) second {
	if t.IsZero() {
		return 0
	}
	return second(min(max(t.Unix(), 0), math.MaxUint32))
}

// Time is in UTC.
func (s second) Time() time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(int64(s), 0).UTC()
}

func (r *reader) moment(n *yaml.Node) moment { return momentOf(r.time(n, 2261)) }

func (r *reader) second(n *yaml.Node) second { return secondOf(r.time(n, 2105)) }

// time reads one from 1970 to the end of a year.
func (r *reader) time(n *yaml.Node, last int) (t time.Time) {
	r.decode(n, &t)
	if year := t.UTC().Year(); r.err == nil && !t.IsZero() && (year < 1970 || year > last) {
		r.fail(n, "%.60q is no time from 1970 to %d", n.Value, last)
		return time.Time{}
	}
	return t
}
