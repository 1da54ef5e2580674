package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// Guest is what a scenario may ask for.
type Guest struct {
	Kernel  string // line: 5.10, 6.1, 6.12, newest, 6.12-arm64
	Cgroups string // v2, hybrid or legacy
	LSM     bool   // bpf is in the list of LSMs
}

// Header says in which guests a scenario runs. A file without one runs on every kernel, with version 2
// cgroups and BPF LSM.
type Header struct {
	kernels, cgroups, lsm []string // allowed values
	also                  []string // kernels, where every one is wanted: it finds there what it finds on the others
}

// prefix begins a line of a header, which is a comment of the script:
//
//	#vm: kernels=5.10,6.1 also=newest cgroups=v2,hybrid,legacy lsm=on,off
const prefix = "#vm:"

// ParseHeader reads the header from a scenario's text. An unknown key or value is an error that names its
// line.
func ParseHeader(text string) (Header, error) {
	h := Header{cgroups: []string{"v2"}, lsm: []string{"on"}}
	number := 0
	for line := range strings.Lines(text) {
		number++
		if strings.HasPrefix(line, "-- ") {
			break // the first file of the archive
		}
		settings, ok := strings.CutPrefix(line, prefix)
		if !ok {
			continue
		}
		for _, s := range strings.Fields(settings) {
			if err := h.set(s); err != nil {
				return Header{}, fmt.Errorf("read scenario's header: line %d: %w", number, err)
			}
		}
	}
	return h, nil
}

func (h *Header) set(setting string) error {
	key, list, _ := strings.Cut(setting, "=")
	values := strings.Split(list, ",")
	known := map[string]struct {
		to      *[]string
		allowed []string // empty: the matrix knows
	}{
		"kernels": {&h.kernels, nil},
		"also":    {&h.also, nil},
		"cgroups": {&h.cgroups, []string{"v2", "hybrid", "legacy"}},
		"lsm":     {&h.lsm, []string{"on", "off"}},
	}
	k, ok := known[key]
	if !ok {
		return fmt.Errorf("unknown setting %q: want kernels, also, cgroups or lsm", key)
	}
	for _, v := range values {
		if v == "" || k.allowed != nil && !slices.Contains(k.allowed, v) {
			return fmt.Errorf("value %q of %s: want one of %q", v, key, k.allowed)
		}
	}
	*k.to = values
	return nil
}

// Wants says whether the scenario runs in a guest; every: also where it finds what it finds elsewhere.
func (h Header) Wants(g Guest, every bool) bool {
	lsm := "off"
	if g.LSM {
		lsm = "on"
	}
	kernel := h.kernels == nil || slices.Contains(h.kernels, g.Kernel) || every && slices.Contains(h.also, g.Kernel)
	return kernel && slices.Contains(h.cgroups, g.Cgroups) && slices.Contains(h.lsm, lsm)
}

// Kernels are the lines that the header names; nil for all.
func (h Header) Kernels() []string { return h.kernels }
