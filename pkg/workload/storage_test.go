package workload

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The list of all containers is read again when it has changed, and only then: there is one for each of hundreds that begin.
func TestStorageIsReadOnce(t *testing.T) {
	c := containersBelow(t.TempDir())
	check(t, os.MkdirAll(filepath.Dir(c.storage.file), 0o755))
	write := func(name string) {
		entries := make([]string, 500)
		for i := range entries {
			entries[i] = fmt.Sprintf(`{"id":"%064x","names":["%s-%d"],"image":"89ab","metadata":"{}"}`, i, name, i)
		}
		writeFile(t, c.storage.file+".new", "["+strings.Join(entries, ",")+"]")
		check(t, os.Rename(c.storage.file+".new", c.storage.file))
	}
	id := fmt.Sprintf("%064x", 499)
	for _, name := range []string{"shop", "bank", "bakery"} {
		write(name)
		if info, ok := c.Find(id, ""); !ok || info.Name != name+"-499" {
			t.Errorf("%s: %+v, %t", name, info, ok)
		}
		if n := testing.AllocsPerRun(3, func() { c.Find(id, "") }); n > 500 {
			t.Errorf("%s: a second look makes %.0f allocations", name, n)
		}
	}
	check(t, os.Remove(c.storage.file))
	if info, ok := c.Find(id, ""); ok {
		t.Errorf("without the file: %+v", info)
	}
}
