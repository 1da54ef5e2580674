package detect

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

// Bounds of what rules with a window remember. Beyond either, the group that has not matched for longest is
// forgotten: its count begins anew, which is counted. A mark has 16 bytes.
const (
	maxGroups = 4096
	maxMarks  = 1 << 18
)

// counts keeps, for every rule with a window, workload and values of By, when it matched. A window slides: a
// rule speaks up at a match when Count matches, this one among them, are younger than Within; exactly, no
// match is rounded into a bucket. After that it is silent for Within, and then speaks up again at the first
// match that finds the window full. Time is that of the events; one that comes late counts as of now.
type counts struct {
	seed      maphash.Seed
	groups    map[groupKey]*group
	ring      group // of all groups; ring.next has not matched for longest
	marks     int   // memory of all groups
	text      []byte
	now       uint64
	forgotten atomic.Uint64
}

// groupKey is a rule's name and the hash of workload and values.
type groupKey struct {
	rule string
	hash uint64
}

// group is what is counted together.
type group struct {
	key        groupKey
	window     rule.Window // of the rule, to notice when it is another one
	marks      []mark
	oldest     int    // of marks, once there are Count of them; without Distinct
	last       uint64 // match
	told       bool   // within the time of this window
	toldAt     uint64
	since      int // counted since then
	prev, next *group
}

// mark is one match, or with Distinct one value and its latest match.
type mark struct {
	at    uint64
	value uint64
}

func newCounts() *counts {
	c := &counts{seed: maphash.MakeSeed(), groups: map[groupKey]*group{}}
	c.ring.prev, c.ring.next = &c.ring, &c.ring
	return c
}

// add counts a match. If the rule is to speak up, it returns how many were counted since it last did, at least
// Count; else 0.
func (c *counts) add(r *rule.Rule, e *rule.Env) int {
	c.now = max(c.now, e.Event.Ktime)
	g := c.group(r, e)
	if g.idle(c.now) || !g.window.Equal(&r.Window) {
		g.begin(&r.Window)
	}
	g.last = c.now
	before := cap(g.marks)
	var full bool
	if len(r.Window.Distinct) == 0 {
		full = g.note(c.now)
	} else {
		c.text = r.Window.AppendDistinct(c.text[:0], e)
		full = g.noteValue(c.now, maphash.Bytes(c.seed, c.text))
	}
	c.marks += cap(g.marks) - before
	c.forget()
	return g.tell(c.now, full)
}

// group finds or makes the group of a match, which becomes the newest.
func (c *counts) group(r *rule.Rule, e *rule.Env) *group {
	c.text = append(append(c.text[:0], e.Workload.Name...), 0)
	c.text = r.Window.AppendKey(c.text, e)
	key := groupKey{r.Name, maphash.Bytes(c.seed, c.text)}
	g := c.groups[key]
	if g == nil {
		g = &group{key: key}
		c.groups[key] = g
	} else {
		g.prev.next, g.next.prev = g.next, g.prev
	}
	g.prev, g.next = c.ring.prev, &c.ring
	g.prev.next, g.next.prev = g, g
	return g
}

// forget keeps within the bounds.
func (c *counts) forget() {
	for len(c.groups) > maxGroups || c.marks > maxMarks {
		g := c.ring.next
		if !g.idle(c.now) {
			c.forgotten.Add(1)
		}
		g.prev.next, g.next.prev = g.next, g.prev
		delete(c.groups, g.key)
		c.marks -= cap(g.marks)
	}
}

// idle says whether all matches are too old to count.
func (g *group) idle(now uint64) bool { return g.last+uint64(g.window.Within) <= now }

// begin empties the group. It keeps no more of the rule than it needs: the rule may be replaced.
func (g *group) begin(w *rule.Window) {
	g.window = rule.Window{Count: w.Count, Within: w.Within, By: w.By, Distinct: w.Distinct}
	g.marks, g.oldest, g.told, g.since = g.marks[:0], 0, false, 0
}

// note counts a match, and says whether the window is full.
func (g *group) note(now uint64) bool {
	g.since++
	if len(g.marks) < g.window.Count {
		g.marks = append(g.marks, mark{at: now})
	} else {
		g.marks[g.oldest] = mark{at: now}
		g.oldest = (g.oldest + 1) % g.window.Count
	}
	return len(g.marks) == g.window.Count && g.marks[g.oldest].at+uint64(g.window.Within) > now
}

// noteValue counts a value that is not in the window yet, and says whether that is full.
func (g *group) noteValue(now, value uint64) bool {
	young, known, oldest := g.marks[:0], false, 0
	for _, m := range g.marks {
		if m.at+uint64(g.window.Within) <= now {
			continue
		}
		if m.value == value {
			m.at, known = now, true
		}
		young = append(young, m)
		if m.at < young[oldest].at {
			oldest = len(young) - 1
		}
	}
	g.marks = young
	if !known {
		g.since++
		if len(g.marks) == g.window.Count {
			g.marks[oldest] = mark{now, value}
		} else {
			g.marks = append(g.marks, mark{now, value})
		}
	}
	return len(g.marks) == g.window.Count
}

// tell decides whether the rule speaks up, and tells how much it counted.
func (g *group) tell(now uint64, full bool) int {
	if !full || g.told && now < g.toldAt+uint64(g.window.Within) {
		return 0
	}
	n := g.window.Count
	if g.told {
		n = max(n, g.since)
	}
	g.told, g.toldAt, g.since = true, now, 0
	return n
}
