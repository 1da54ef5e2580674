package baseline

import (
	"cmp"
	"slices"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Explanation says why a profile allows a key, or what it would take.
type Explanation struct {
	Key     event.Key
	Allowed bool
	Held    bool      // false: the profile does not speak about the key's dimension, and allows all
	By      event.Key // the entry that allows it, if it is held and allowed
	Nearest []Near    // if it is not allowed: at most five, nearest first
	Add     string    // if it is not allowed: the lines of the text form that would allow it
}

// Near is an entry that resembles a key.
type Near struct {
	Key event.Key
	Why string
}

const (
	maxNear     = 5
	maxCompared = 64 // paths whose spelling is compared
)

// Explain judges one key.
func Explain(p *Profile, k event.Key) Explanation {
	d := k.Op.Dimension()
	x := Explanation{Key: k, Held: p.held.Has(d)}
	by, e := p.find(k)
	switch {
	case !x.Held:
		x.Allowed = true
	case e != nil:
		x.Allowed, x.By = true, by
	default:
		x.Nearest = nearest(p.Keys(), k)
		s := emptySections(event.Dimensions(0).With(d))
		s.add(k, false)
		x.Add = string(encode(s))
	}
	return x
}

// candidate is an entry with its distance from a key: first by kind, then by what is not common.
type candidate struct {
	near           Near
	kind, distance int
}

func nearest(keys []event.Key, k event.Key) []Near {
	var found []candidate
	for _, have := range keys {
		var c candidate
		switch {
		case k.Op.OnPath() && have.Op.OnPath():
			c = nearPath(have, k)
		case k.Op.OnAddress() && have.Op.OnAddress():
			c = nearAddress(have, k)
		case k.Op.OnNumber() && have.Op == k.Op:
			c.near.Why = "the same use, another value"
		}
		if c.near.Why != "" {
			c.near.Key = have
			found = append(found, c)
		}
	}
	byDistance := func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.distance, b.distance))
	}
	slices.SortStableFunc(found, byDistance)
	if k.Op.OnPath() {
		found = found[:min(len(found), maxCompared)]
		for i := range found {
			found[i].distance = found[i].distance<<8 + edits(found[i].near.Key.Path, k.Path)
		}
		slices.SortStableFunc(found, byDistance)
	}
	var near []Near
	for _, c := range found[:min(len(found), maxNear)] {
		near = append(near, c.near)
	}
	return near
}

// nearPath compares paths; the distance is the number of names that are not common.
func nearPath(have, k event.Key) candidate {
	common := commonNames(have.Path, k.Path)
	distance := strings.Count(have.Path, "/") + strings.Count(k.Path, "/") - 2*common
	switch {
	case have.Path == k.Path:
		return candidate{Near{Why: "the same path, another access"}, 0, 0}
	case have.Op != k.Op:
	case lastName(have.Path) == lastName(k.Path):
		return candidate{Near{Why: "the same name in another directory"}, 1, distance - 2}
	case common > 0:
		return candidate{Near{Why: "the same access, a path nearby"}, 1, distance}
	}
	return candidate{}
}

func nearAddress(have, k event.Key) candidate {
	place := have.Address == k.Address || have.Address.IsValid() && k.Address.IsValid() && have.Address.Overlaps(k.Address)
	port, protocol := have.Port == k.Port, have.Protocol == k.Protocol
	switch {
	case have.Op != k.Op:
		if place && port && protocol {
			return candidate{Near{Why: "the same address and port, another access"}, 3, 0}
		}
	case place && protocol:
		return candidate{Near{Why: "the same address, another port"}, 0, max(int(have.Port), int(k.Port)) - min(int(have.Port), int(k.Port))}
	case port && protocol:
		return candidate{Near{Why: "the same port, another address"}, 1, 0}
	case place && port:
		return candidate{Near{Why: "the same address and port, another protocol"}, 2, 0}
	}
	return candidate{}
}

// commonNames counts the directories that two paths begin with.
func commonNames(a, b string) int {
	n := 0
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			break
		}
		if a[i] == '/' && i > 0 {
			n++
		}
	}
	return n
}

func lastName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// edits is the number of bytes to insert, remove or replace to make b of a.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
