package gotls

import (
	"testing"

	"github.com/plumbline-io/plumbline/pkg/gobin"
	"github.com/plumbline-io/plumbline/pkg/gobin/gobintest"
)

// The table for programs without type descriptors is what the descriptors of each release say.
func TestKnownLayouts(t *testing.T) {
	for _, toolchain := range gobintest.Toolchains() {
		s := gobintest.Production()
		s.Toolchain = toolchain
		t.Run(s.Name(), func(t *testing.T) {
			f, err := gobin.Open(gobintest.Build(t, s))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			found, err := find(f)
			if err != nil {
				t.Fatal(err)
			}
			known, ok := knownLayout(f.Version().Minor)
			if !ok || found.layout != known {
				t.Errorf("%s: descriptors say %+v, the table %+v, %t", f.Version().Text, found.layout, known, ok)
			}
			if len(found.ends) < 10 || len(found.client)*len(found.server)*len(found.alert)*len(found.serverChain)*len(found.clientChain) != 1 {
				t.Errorf("probes: %+v", found)
			}
		})
	}
}
