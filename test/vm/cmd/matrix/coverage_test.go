package main

import "testing"

func TestCoverage(t *testing.T) {
	var c coverage
	if got := c.String(); got != "-" {
		t.Errorf("without a profile: %s", got)
	}
	if err := c.add([]byte("mode: set\na/b.go:1.2,3.4 3 1\na/b.go:5.6,7.8 1 0\n")); err != nil {
		t.Fatal(err)
	}
	if got := c.String(); got != "75 %" {
		t.Errorf("got %s, want 75 %%", got)
	}
	for _, bad := range []string{"mode: set\na/b.go:1.2,3.4 3\n", "a/b.go:1.2,3.4 x 1\n"} {
		if err := c.add([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
