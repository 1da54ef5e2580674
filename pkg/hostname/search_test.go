package hostname

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A name is asked for as it stands in the rule: the list of domains to search, which a cluster gives its pods, makes no
// other name of it. What is in /etc/hosts is known still, and a name without a dot is searched for.
func TestSearchList(t *testing.T) {
	const resolv, hosts = "PLUMBLINE_TEST_RESOLV", "PLUMBLINE_TEST_HOSTS"
	if os.Getenv(resolv) == "" {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestSearchList$", "-test.v")
		cmd.Env = os.Environ()
		for name, text := range map[string]string{
			resolv: "nameserver 192.0.2.53\nsearch svc.cluster.test\noptions ndots:5 attempts:1\n",
			hosts:  "192.0.2.7 file.example.test\n192.0.2.8 short\n",
		} {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd.Env = append(cmd.Env, name+"="+path)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for from, to := range map[string]string{os.Getenv(resolv): "/etc/resolv.conf", os.Getenv(hosts): "/etc/hosts"} {
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	server := newNameServer(t, map[string][]string{
		"evil.example.": {"192.0.2.1"}, "evil.example.svc.cluster.test.": {"192.0.2.2"}, "db.svc.cluster.test.": {"192.0.2.3"},
	})
	lookup := System(server.conn.LocalAddr().String())
	for name, want := range map[string]string{
		"evil.example": "192.0.2.1", "db.svc.cluster.test": "192.0.2.3", "db": "192.0.2.3", "nobody.example": "",
		"file.example.test": "192.0.2.7", "short": "192.0.2.8", "192.0.2.9": "192.0.2.9", "2001:db8::1": "2001:db8::1",
	} {
		got, err := lookup(t.Context(), name)
		is := ""
		for _, a := range got {
			is += a.Unmap().String()
		}
		if is != want || (err != nil) != (want == "") {
			t.Errorf("%s is %q, %v", name, is, err)
		}
	}
	server.set(func() {
		for _, other := range []string{"evil.example.svc.cluster.test.", "nobody.example.svc.cluster.test."} {
			if server.asked[other] > 0 {
				t.Errorf("asked for %s", other)
			}
		}
	})
}
