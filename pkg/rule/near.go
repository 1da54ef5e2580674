package rule

import (
	"iter"
	"maps"
	"slices"
)

// nearest offers what is like an unknown name: one in which few letters differ, else one that begins alike.
func (s *scope) nearest(name string, known, alike iter.Seq[string]) string {
	const longest, leastCommon = 100, 4
	if s.hinted++; s.hinted > maxProblems || len(name) > longest {
		return "" // looking takes time, and no more problems are told
	}
	best, distance := "", min(max(len(name)/5, 2), 4)+1
	for _, candidate := range slices.Sorted(known) {
		if longer := len(candidate) - len(name); longer >= distance || -longer >= distance {
			continue
		}
		if d := Distance(name, candidate); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		length := leastCommon - 1
		for _, candidate := range slices.Sorted(alike) {
			if n := commonLength(name, candidate); n > length {
				best, length = candidate, n
			}
		}
	}
	if best == "" {
		return ""
	}
	return " (did you mean " + best + "?)"
}

// nearestField offers one that is not supplied only where few letters differ.
func (s *scope) nearestField(name string) string {
	s.knowAll()
	return s.nearest(name, maps.Keys(s.fields), func(yield func(string) bool) {
		for known, f := range s.fields {
			if f.why == "" && !yield(known) {
				return
			}
		}
	})
}

func (s *scope) nearestMacro(name string) string {
	return s.nearest(name, maps.Keys(s.macros), maps.Keys(s.macros))
}

func commonLength(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
