package vm

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// member is what a reader of the format finds.
type member struct {
	mode         uint64
	major, minor uint64
	data         string
}

// readCPIO reads what writeCPIO has written, as the kernel does: by the sizes in the headers.
func readCPIO(t *testing.T, archive []byte) (names []string, members map[string]member) {
	t.Helper()
	members = map[string]member{}
	seen := map[uint64]bool{}
	r := bytes.NewReader(archive)
	take := func(n int) string {
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatalf("at %d of %d: %v", len(archive)-r.Len(), len(archive), err)
		}
		return string(b)
	}
	align := func() {
		for (len(archive)-r.Len())%4 != 0 {
			if take(1) != "\x00" {
				t.Fatalf("padding at %d is not zero", len(archive)-r.Len()-1)
			}
		}
	}
	for {
		if magic := take(6); magic != "070701" {
			t.Fatalf("magic %q at %d", magic, len(archive)-r.Len()-6)
		}
		var field [13]uint64
		for i := range field {
			n, err := strconv.ParseUint(take(8), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			field[i] = n
		}
		name := strings.TrimSuffix(take(int(field[11])), "\x00")
		align()
		data := take(int(field[6]))
		align()
		if name == "TRAILER!!!" {
			if r.Len() != 0 {
				t.Fatalf("%d bytes after the trailer", r.Len())
			}
			return names, members
		}
		if seen[field[0]] {
			t.Errorf("%s has the inode of another: it would be a hard link", name)
		}
		seen[field[0]] = true
		if _, twice := members[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		names = append(names, name)
		members[name] = member{mode: field[1], major: field[9], minor: field[10], data: data}
	}
}

func TestCPIO(t *testing.T) {
	from := filepath.Join(t.TempDir(), "from")
	if err := os.WriteFile(from, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeCPIO(&out, []File{
		{Path: "/usr/bin/b", Data: []byte("12345")},
		{Path: "/init", From: from},
		{Path: "/usr/bin/a", Data: []byte("first"), Mode: 0o644},
		{Path: "/usr/bin/a", Data: []byte("second")},
		{Path: "/empty"},
	}); err != nil {
		t.Fatal(err)
	}
	names, got := readCPIO(t, out.Bytes())
	want := map[string]member{
		"dev":         {mode: 0o040755},
		"dev/console": {mode: 0o020600, major: 5, minor: 1},
		"empty":       {mode: 0o100755},
		"init":        {mode: 0o100755, data: "from a file"},
		"usr":         {mode: 0o040755},
		"usr/bin":     {mode: 0o040755},
		"usr/bin/a":   {mode: 0o100644, data: "first"},
		"usr/bin/b":   {mode: 0o100755, data: "12345"},
	}
	if len(got) != len(want) {
		t.Errorf("has %q, want %d members", names, len(want))
	}
	for name, m := range want {
		if got[name] != m {
			t.Errorf("%s: got %+v, want %+v", name, got[name], m)
		}
	}
	for i, name := range names {
		if dir := filepath.Dir(name); dir != "." && !slices.Contains(names[:i], dir) {
			t.Errorf("%s comes before its directory", name)
		}
	}
}

func TestCPIOWithoutFile(t *testing.T) {
	err := writeCPIO(io.Discard, []File{{Path: "/init", From: "/nonexistent"}})
	if err == nil || !strings.Contains(err.Error(), "add /init to initramfs: open /nonexistent") {
		t.Errorf("got %v", err)
	}
}

// TestCPIOWithTheTool compares with another reader of the format.
func TestCPIOWithTheTool(t *testing.T) {
	tool, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("needs the cpio program: ", err)
	}
	var out bytes.Buffer
	if err := writeCPIO(&out, []File{{Path: "/a/b", Data: []byte("x")}, {Path: "/c", Data: []byte("yz")}}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool, "--list", "--quiet")
	cmd.Stdin = &out
	list, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Fields(string(list)), "dev dev/console a a/b c"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzCPIO(f *testing.F) {
	f.Add("a/b", []byte("data"), "a", []byte{})
	f.Add("x", []byte("1"), "x", []byte("2"))
	f.Fuzz(func(t *testing.T, name1 string, data1 []byte, name2 string, data2 []byte) {
		name1, name2 = filepath.Join("/f", name1), filepath.Join("/g", name2)
		if strings.ContainsRune(name1+name2, 0) || !strings.HasPrefix(name1, "/f/") || !strings.HasPrefix(name2, "/g/") {
			t.Skip("no name of a file")
		}
		var out bytes.Buffer
		if err := writeCPIO(&out, []File{{Path: name1, Data: data1}, {Path: name2, Data: data2}}); err != nil {
			t.Fatal(err)
		}
		_, got := readCPIO(t, out.Bytes())
		if got[name1[1:]].data != string(data1) || got[name2[1:]].data != string(data2) {
			t.Errorf("%q or %q did not come back", name1, name2)
		}
	})
}
