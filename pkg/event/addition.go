package event

import (
	"fmt"
	"slices"
	"strings"
)

// Addition is a group of operations that came after the first baselines. Who was learnt by an earlier version may do
// there what its baseline lacks: it is audited, whatever its mode is.
type Addition uint8

// The additions, all of DimPrivilege. The values are those of the bits ADDED_* of bpf/operation.h.
const (
	AddedNamespaces Addition = iota // OpNamespace
	AddedFileRights                 // operations that GivesRights
	AddedKeys                       // OpKeyctl
	AdditionCount
)

// String is the name in baselines.
func (a Addition) String() string { return name(additionNames[:], int(a)) }

// Additions is a set of them.
type Additions uint8

// AllAdditions is every one.
const AllAdditions = Additions(1<<AdditionCount - 1)

// Has says whether a is in the set.
func (s Additions) Has(a Addition) bool { return s&(1<<a) != 0 }

// With is the set and a.
func (s Additions) With(a Addition) Additions { return s | 1<<a }

// Names lists them.
func (s Additions) Names() (names []string) {
	for a := range AdditionCount {
		if s.Has(a) {
			names = append(names, a.String())
		}
	}
	return names
}

// ParseAddition reads an addition's name.
func ParseAddition(s string) (Addition, error) {
	if i := slices.Index(additionNames[:], s); i >= 0 {
		return Addition(i), nil
	}
	return AdditionCount, fmt.Errorf("unknown addition %.60q: want %s", s, strings.Join(additionNames[:], ", "))
}
