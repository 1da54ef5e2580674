package enforce

import (
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// denyPaths says in the kernel's word about rules that they deny something by its path: RULES_DENY_PATHS of
// bpf/alias.h.
const denyPaths = 1 << event.OpUnspecified

// asking is the word that says what rules ask about. Who denies by paths has to see what changes names.
func (w *wishes) asking() uint64 {
	asking := w.ops
	if w.byPath {
		asking |= denyPaths | 1<<opAbove | 1<<event.OpRename | 1<<event.OpLink
	}
	return asking
}

// addAbove notes of the directories above what is denied that whoever is denied it may not rename them. Of one that is
// above more than the kernel holds of one thing, those rules count that come first.
func (w *wishes) addAbove(i *rule.Interest, wish bpfWish) {
	op := operationOf(i)
	if !op.OnPath() || i.Paths == nil || wish == (bpfWish{}) {
		return
	}
	w.byPath = true
	w.denials.lossy = true
	defer func() { w.denials.lossy = false }()
	dirs, ends := map[string]bool{}, map[string]bool{}
	for _, t := range i.Paths {
		if len(dirs) > maxWishes {
			break // check says so
		}
		of := dirs
		switch {
		case t.Suffix:
			of = ends
		case !strings.HasPrefix(t.Text, "/"):
			continue // in no directory
		}
		for text := t.Text; ; of[text] = true {
			text = text[:max(strings.LastIndexByte(text, '/'), 0)]
			if text == "" || len(text) >= PathBytes || of[text] {
				break
			}
		}
	}
	for dir := range dirs {
		join(w, w.above, textWish{opAbove, dir}, wish)
	}
	for end := range ends {
		join(w, w.suffixes, textWish{opAbove, reversed(end)}, wish)
	}
}
