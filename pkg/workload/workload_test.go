package workload

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const id64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestResolve(t *testing.T) {
	uid, escaped := "12345678-9abc-def0-1234-56789abcdef0", "12345678_9abc_def0_1234_56789abcdef0"
	for name, tc := range map[string]struct {
		path string
		want Workload
	}{
		"root":              {"/", Workload{Name: "host", Kind: Host, Cgroup: "/"}},
		"empty":             {"", Workload{Name: "host", Kind: Host, Cgroup: "/"}},
		"unit":              {"/system.slice/nginx.service", Workload{Name: "nginx.service", Kind: Unit, Unit: "nginx.service", Cgroup: "/system.slice/nginx.service"}},
		"instance":          {"/system.slice/system-getty.slice/getty@tty1.service", Workload{Name: "getty@tty1.service", Kind: Unit, Unit: "getty@tty1.service", Cgroup: "/system.slice/system-getty.slice/getty@tty1.service"}},
		"delegated":         {"/system.slice/app.service/workers/3", Workload{Name: "app.service", Kind: Unit, Unit: "app.service", Cgroup: "/system.slice/app.service"}},
		"init":              {"/init.scope", Workload{Name: "init.scope", Kind: Unit, Unit: "init.scope", Cgroup: "/init.scope"}},
		"user unit":         {"/user.slice/user-1000.slice/user@1000.service/app.slice/shell.service", Workload{Name: "user@1000.service/shell.service", Kind: Unit, Unit: "shell.service", Cgroup: "/user.slice/user-1000.slice/user@1000.service/app.slice/shell.service"}},
		"user manager":      {"/user.slice/user-1000.slice/user@1000.service", Workload{Name: "user@1000.service", Kind: Unit, Unit: "user@1000.service", Cgroup: "/user.slice/user-1000.slice/user@1000.service"}},
		"slice":             {"/system.slice", Workload{Name: "/system.slice", Kind: Cgroup, Cgroup: "/system.slice"}},
		"docker cgroupfs":   {"/docker/" + id64, Workload{Name: id64[:12], Kind: Container, ContainerID: id64, Cgroup: "/docker/" + id64}},
		"docker systemd":    {"/system.slice/docker-" + id64 + ".scope", Workload{Name: id64[:12], Kind: Container, ContainerID: id64, Cgroup: "/system.slice/docker-" + id64 + ".scope"}},
		"podman":            {"/machine.slice/libpod-" + id64 + ".scope/container", Workload{Name: id64[:12], Kind: Container, ContainerID: id64, Cgroup: "/machine.slice/libpod-" + id64 + ".scope"}},
		"podman conmon":     {"/machine.slice/libpod-conmon-" + id64 + ".scope", Workload{Name: "libpod-conmon-" + id64 + ".scope", Kind: Unit, Unit: "libpod-conmon-" + id64 + ".scope", Cgroup: "/machine.slice/libpod-conmon-" + id64 + ".scope"}},
		"kube systemd":      {"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + escaped + ".slice/cri-containerd-" + id64 + ".scope", Workload{Name: id64[:12], Kind: Container, ContainerID: id64, PodUID: uid, Cgroup: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + escaped + ".slice/cri-containerd-" + id64 + ".scope"}},
		"kube cgroupfs":     {"/kubepods/besteffort/pod" + uid + "/" + id64, Workload{Name: id64[:12], Kind: Container, ContainerID: id64, PodUID: uid, Cgroup: "/kubepods/besteffort/pod" + uid + "/" + id64}},
		"runc wrong driver": {"/system.slice/containerd.service/kubepods-pod" + escaped + ".slice:cri-containerd:" + id64, Workload{Name: "containerd.service/" + id64[:12], Kind: Container, ContainerID: id64, PodUID: uid, Cgroup: "/system.slice/containerd.service/kubepods-pod" + escaped + ".slice:cri-containerd:" + id64}},
		"systemd inside":    {"/docker/" + id64 + "/system.slice/nginx.service", Workload{Name: id64[:12], Kind: Container, ContainerID: id64, Cgroup: "/docker/" + id64}},
		"plain":             {"/batch/job-7", Workload{Name: "/batch/job-7", Kind: Cgroup, Cgroup: "/batch/job-7"}},
		"short id":          {"/docker/" + id64[:63], Workload{Name: "/docker/" + id64[:63], Kind: Cgroup, Cgroup: "/docker/" + id64[:63]}},
		"suffix only":       {"/.service", Workload{Name: "/.service", Kind: Cgroup, Cgroup: "/.service"}},
		"static pod":        {"/kubepods/pod" + id64[:32] + "/" + id64, Workload{Name: id64[:12], Kind: Container, ContainerID: id64, PodUID: id64[:32], Cgroup: "/kubepods/pod" + id64[:32] + "/" + id64}},
		"cri-o":             {"/kubepods.slice/kubepods-pod" + escaped + ".slice/crio-" + id64 + ".scope/container", Workload{Name: id64[:12], Kind: Container, ContainerID: id64, PodUID: uid, Cgroup: "/kubepods.slice/kubepods-pod" + escaped + ".slice/crio-" + id64 + ".scope"}},
		"cri-o conmon":      {"/system.slice/crio-conmon-" + id64 + ".scope", Workload{Name: "crio-conmon-" + id64 + ".scope", Kind: Unit, Unit: "crio-conmon-" + id64 + ".scope", Cgroup: "/system.slice/crio-conmon-" + id64 + ".scope"}},
		"pod, pause gone":   {"/kubepods/besteffort/pod" + uid, Workload{Name: "/kubepods/besteffort/pod" + uid, Kind: Cgroup, PodUID: uid, Cgroup: "/kubepods/besteffort/pod" + uid}},
		"quadlet":           {"/system.slice/web.service/libpod-payload-" + id64, Workload{Name: "web.service/" + id64[:12], Kind: Container, ContainerID: id64, Cgroup: "/system.slice/web.service/libpod-payload-" + id64}},
		"session":           {"/user.slice/user-0.slice/session-3.scope", Workload{Name: "session-3.scope", Kind: Unit, Unit: "session-3.scope", Cgroup: "/user.slice/user-0.slice/session-3.scope"}},
		"nspawn":            {"/machine.slice/machine-a.scope/payload/system.slice/nginx.service", Workload{Name: "machine-a.scope", Kind: Unit, Unit: "machine-a.scope", Cgroup: "/machine.slice/machine-a.scope"}},
		"escaped unit":      {`/system.slice/system-a\x2db.slice/a\x2db@c.service`, Workload{Name: `a\x2db@c.service`, Kind: Unit, Unit: `a\x2db@c.service`, Cgroup: `/system.slice/system-a\x2db.slice/a\x2db@c.service`}},
		"ctr":               {"/default/c1", Workload{Name: "/default/c1", Kind: Cgroup, Cgroup: "/default/c1"}},
		"user's manager":    {"/user.slice/user-1000.slice/user@1000.service/init.scope", Workload{Name: "user@1000.service/init.scope", Kind: Unit, Unit: "init.scope", Cgroup: "/user.slice/user-1000.slice/user@1000.service/init.scope"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := NewResolver().Resolve(tc.path); got != tc.want {
				t.Errorf("got %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

// Who may make cgroups below his own must not become another workload by their names.
func TestResolveImpostor(t *testing.T) {
	const user = "/user.slice/user-1000.slice/user@1000.service/"
	for name, tc := range map[string]struct{ path, want string }{
		"unit below a delegated unit":         {"/system.slice/app.service/nginx.service", "app.service"},
		"slice and unit below one":            {"/system.slice/app.service/system.slice/nginx.service", "app.service"},
		"container below a delegated unit":    {"/system.slice/app.service/docker-" + id64 + ".scope", "app.service/" + id64[:12]},
		"container of a user":                 {user + "user.slice/libpod-" + id64 + ".scope", "user@1000.service/" + id64[:12]},
		"container below a unit of a user":    {user + "app.slice/x.service/" + id64, "user@1000.service/x.service/" + id64[:12]},
		"another user below a user":           {user + "user@0.service/app.slice/x.service", "user@1000.service/user@0.service"},
		"plain cgroup of a user":              {user + "batch/nginx.service", "user@1000.service/nginx.service"},
		"unit in a system container":          {"/lxc.payload.a/system.slice/nginx.service", "/lxc.payload.a/nginx.service"},
		"user manager in one":                 {"/lxc.payload.a/user.slice/user-0.slice/user@0.service/x.service", "/lxc.payload.a/user@0.service"},
		"container in one":                    {"/lxc.payload.a/docker/" + id64, "/lxc.payload.a/" + id64[:12]},
		"unit in a plain cgroup":              {"/batch/nginx.service", "/batch/nginx.service"},
		"container in a container":            {"/docker/" + id64 + "/docker/" + strings.Repeat("f", 64), id64[:12]},
		"container whose ID has upper case":   {"/docker/" + strings.ToUpper(id64), "/docker/" + strings.ToUpper(id64)},
		"newline":                             {"/system.slice/app.service/x\n/system.slice/nginx.service", "app.service"},
		"newline in a plain name":             {"/a\n/nginx.service", "/a\n/nginx.service"},
		"container that looks like a monitor": {"/docker/" + id64 + "/libpod-conmon-" + strings.Repeat("f", 64) + ".scope", id64[:12]},
	} {
		t.Run(name, func(t *testing.T) {
			if got := NewResolver().Resolve(tc.path); got.Name != tc.want {
				t.Errorf("got %+v, want name %q", got, tc.want)
			}
		})
	}
}

// The names within the operator's scope count as if the scope were the root.
func TestResolveScope(t *testing.T) {
	for name, tc := range map[string]struct{ scope, path, want string }{
		"unit below":         {"/test/top", "/test/top/system.slice/web.service", "web.service"},
		"container below":    {"/test/top", "/test/top/docker/" + id64, id64[:12]},
		"the scope itself":   {"/test/top", "/test/top", "/test/top"},
		"beside":             {"/test/top", "/test/topper/web.service", "/test/topper/web.service"},
		"plain cgroup below": {"/test", "/test/batch/web.service", "/test/batch/web.service"},
		"a unit as scope":    {"/system.slice/web.service", "/system.slice/web.service/nginx.service", "web.service"},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewResolver()
			r.chosen = tc.scope
			if got := r.Resolve(tc.path); got.Name != tc.want {
				t.Errorf("got %+v, want name %q", got, tc.want)
			}
		})
	}
}

func BenchmarkResolve(b *testing.B) {
	r := NewResolver()
	b.ReportAllocs()
	for b.Loop() {
		r.Resolve("/system.slice/docker-" + id64 + ".scope")
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("/system.slice/a.service")
	f.Add("/docker/" + id64)
	f.Add("//..//\n")
	r := NewResolver()
	f.Fuzz(func(t *testing.T, path string) {
		w := r.Resolve(path)
		if w.Name == "" || w.Kind == "" || !strings.HasPrefix(w.Cgroup, "/") || len(w.Name) > maxPath+64 {
			t.Errorf("%q: %+v", path, w)
		}
		// Nothing below a container or a unit of systemd's changes who it is.
		below := "/docker/" + id64 + "/" + path
		if w := r.Resolve(below); w.Name != id64[:12] {
			t.Errorf("%q: %+v", below, w)
		}
		below = "/system.slice/app.service/" + path
		if w := r.Resolve(below); w.Name != "app.service" && !strings.HasPrefix(w.Name, "app.service/") {
			t.Errorf("%q: %+v", below, w)
		}
	})
}

const (
	v2Line     = "30 23 0:26 / %s rw - cgroup2 cgroup2 rw,nsdelegate\n"
	pidsLine   = "33 23 0:29 / /sys/fs/cgroup/pids rw shared:9 - cgroup cgroup rw,pids\n"
	cpuLine    = "34 23 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
	namedLine  = "35 23 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
	selfCgroup = "12:pids:/x\n3:cpu,cpuacct:/\n1:name=systemd:/\n0::/y\n"
)

func TestDetect(t *testing.T) {
	v2Unified := strings.ReplaceAll(v2Line, "%s", "/sys/fs/cgroup/unified")
	v2Alone := strings.ReplaceAll(v2Line, "%s", "/sys/fs/cgroup")
	for name, tc := range map[string]struct {
		mountinfo, scope string
		want             Hierarchy
		wantErr          string
	}{
		"v2":                     {v2Alone, "", Hierarchy{Layout: V2, Mount: "/sys/fs/cgroup"}, ""},
		"hybrid":                 {v2Unified + cpuLine + pidsLine + namedLine, "", Hierarchy{Layout: Hybrid, Controller: "pids", ID: 12, Mount: "/sys/fs/cgroup/pids"}, ""},
		"hybrid, scope in v2":    {v2Unified + pidsLine, "/sys/fs/cgroup/unified/demo", Hierarchy{Layout: Hybrid, Mount: "/sys/fs/cgroup/unified"}, ""},
		"legacy":                 {pidsLine + cpuLine + namedLine, "", Hierarchy{Layout: Legacy, Controller: "pids", ID: 12, Mount: "/sys/fs/cgroup/pids"}, ""},
		"legacy, scope in cpu":   {pidsLine + cpuLine, "/sys/fs/cgroup/cpu,cpuacct/x", Hierarchy{Layout: Legacy, Controller: "cpu", ID: 3, Mount: "/sys/fs/cgroup/cpu,cpuacct"}, ""},
		"part of the tree first": {strings.Replace(pidsLine, " / /sys/fs/cgroup/", " /docker/x /run/c/", 1) + pidsLine + v2Unified, "", Hierarchy{Layout: Hybrid, Controller: "pids", ID: 12, Mount: "/sys/fs/cgroup/pids"}, ""},
		"part of the tree last":  {v2Alone + strings.Replace(v2Alone, " / /sys/fs/cgroup ", " /docker/x /run/c ", 1), "", Hierarchy{Layout: V2, Mount: "/sys/fs/cgroup"}, ""},
		"controller of someone":  {v2Alone + strings.Replace(cpuLine, "/sys/fs/cgroup/cpu,cpuacct", "/opt/x/cpu", 1), "", Hierarchy{Layout: V2, Mount: "/sys/fs/cgroup"}, ""},
		"hidden by a later one":  {pidsLine + "31 23 0:3 / /sys/fs/cgroup/pids rw - tmpfs tmpfs rw\n" + cpuLine, "", Hierarchy{Layout: Legacy, Controller: "cpu", ID: 3, Mount: "/sys/fs/cgroup/cpu,cpuacct"}, ""},
		"space in the mount":     {strings.ReplaceAll(v2Line, "%s", `/mnt/a\040b`), "/mnt/a b/x", Hierarchy{Layout: V2, Mount: "/mnt/a b"}, ""},
		"scope in a named one":   {pidsLine + namedLine, "/sys/fs/cgroup/systemd/x", Hierarchy{}, "has no controller"},
		"scope in none":          {v2Alone, "/home", Hierarchy{}, "/home is in no mounted cgroup hierarchy"},
		"scope beside the mount": {v2Alone, "/sys/fs/cgroupx", Hierarchy{}, "is in no mounted cgroup hierarchy"},
		"nothing mounted":        {"1 2 3:4 / / rw - ext4 /dev/sda rw\n", "", Hierarchy{}, "no cgroup hierarchy is mounted"},
		"garbage beside":         {"x - y\n\n- \n" + v2Alone, "", Hierarchy{Layout: V2, Mount: "/sys/fs/cgroup"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			proc := t.TempDir()
			if err := os.Mkdir(filepath.Join(proc, "self"), 0o755); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{"mountinfo": tc.mountinfo, "cgroup": selfCgroup} {
				if err := os.WriteFile(filepath.Join(proc, "self", file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Detect(Config{Proc: proc, Scope: tc.scope})
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("got %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got.resolver, got.root = nil, ""
			if *got != tc.want {
				t.Errorf("got %+v, want %+v", *got, tc.want)
			}
		})
	}
}

func TestParseStat(t *testing.T) {
	rest := " S 41 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 98765 0 0"
	for name, tc := range map[string]struct{ stat, comm string }{
		"plain":       {"7 (sh)" + rest, "sh"},
		"parentheses": {"7 (a) (b))" + rest, "a) (b)"},
		"newline":     {"7 (a\nb)" + rest, "a\nb"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := parseStat([]byte(tc.stat))
			if err != nil || p.Comm != tc.comm || p.PPID != 41 || p.Start != 98765 {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (a) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0"))
	f.Fuzz(func(_ *testing.T, stat []byte) { _, _ = parseStat(stat) })
}

func FuzzParseMapping(f *testing.F) {
	f.Add("7f0000000000-7f0000001000 r-xp 00001000 08:01 1234   /usr/lib/x y.so")
	f.Fuzz(func(t *testing.T, line string) {
		if m, ok := parseMapping(line); ok && (m.inode == 0 || m.name == "") {
			t.Errorf("%q: %+v", line, m)
		}
	})
}

// A real process: /proc must say what we know of it.
func TestReadProcess(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "60")
	cmd.Dir = t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	want, err := filepath.EvalSymlinks("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	var p Process
	for p.Args == "" { // Start returns when the old image is gone, before the new one is complete
		if p, err = NewProc("").Read(uint32(cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
	}
	if p.Exe != want || p.Deleted || p.PPID != uint32(os.Getpid()) || p.Args != "/bin/sleep 60" || p.Cwd != cmd.Dir || p.Start == 0 || p.Comm != "sleep" {
		t.Errorf("%+v", p)
	}
	images, err := NewProc("").Images(uint32(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if images[0].Name != want || images[0].Inode == 0 || images[0].Size == 0 {
		t.Errorf("first image %+v", images[0])
	}
}

func TestReadGoneProcess(t *testing.T) {
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := NewProc("").Read(uint32(cmd.Process.Pid)); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
	if _, err := NewProc("").Images(uint32(cmd.Process.Pid)); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
}
