package counts

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTell(t *testing.T) {
	file := filepath.Join(t.TempDir(), "counts")
	t.Setenv("PLUMBLINE_COUNTS", file)
	for _, line := range []string{"host: 1 passed", "matrix: 2 passed"} {
		if err := Tell(line); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if want := "host: 1 passed\nmatrix: 2 passed\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
