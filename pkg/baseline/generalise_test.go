package baseline

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

const uuid = "/0f8fad5b-d9cb-469f-a165-70867728950e"

// reads are keys of one operation.
func reads(paths ...string) []event.Key {
	var keys []event.Key
	for _, path := range paths {
		keys = append(keys, on(event.OpRead, path))
	}
	return keys
}

func writes(paths ...string) []event.Key {
	keys := reads(paths...)
	for i := range keys {
		keys[i].Op = event.OpWrite
	}
	return keys
}

func TestGeneralise(t *testing.T) {
	for name, tc := range map[string]struct {
		keys []event.Key
		want []string // what the profile lists then
		why  string   // the widening, "" if there is none
	}{
		"uuid": {
			reads("/srv/a" + uuid + "/x"),
			[]string{"read /srv/a/**"},
			"read /srv/a" + uuid + "/x became read /srv/a/**: a UUID differs from run to run",
		},
		"uuid in a name": {
			reads("/srv/a" + uuid + ".json"),
			[]string{"read /srv/a/**"},
			"read /srv/a" + uuid + ".json became read /srv/a/**: a UUID differs from run to run",
		},
		"what is beside goes along": {
			reads("/srv/a/fixed", "/srv/a"+uuid, "/srv/b"),
			[]string{"read /srv/a/**", "read /srv/b"},
			"read /srv/a" + uuid + " and 1 more became read /srv/a/**: a UUID differs from run to run",
		},
		"mktemp": {
			writes("/tmp/tmp.Ab3dEfGhIj"),
			[]string{"write /tmp/**"},
			"write /tmp/tmp.Ab3dEfGhIj became write /tmp/**: a temporary name differs from run to run",
		},
		"python": {
			writes("/tmp/tmpk3j_x9q2/a.json"),
			[]string{"write /tmp/**"},
			"write /tmp/tmpk3j_x9q2/a.json became write /tmp/**: a temporary name differs from run to run",
		},
		"mkstemp twice": {
			writes("/tmp/ccq3Xz9a.s", "/tmp/ccPo8R2b.s"),
			[]string{"write /tmp/**"},
			"write /tmp/ccPo8R2b.s and 1 more became write /tmp/**: names that differ in a number or in random letters were seen",
		},
		"mkstemp beside what it replaces": {
			writes("/var/lib/report/report.8FCS9y", "/var/lib/report/report.sYhzvI"),
			[]string{"write /var/lib/report/**"},
			"write /var/lib/report/report.8FCS9y and 1 more became write /var/lib/report/**: names that differ in a number or in random letters were seen",
		},
		"long hex": {
			writes("/var/cache/a/d41d8cd98f00b204e9800998ecf8427e"),
			[]string{"write /var/cache/a/**"},
			"write /var/cache/a/d41d8cd98f00b204e9800998ecf8427e became write /var/cache/a/**: a long random name differs from run to run",
		},
		"base62": {
			writes("/data/V1StGXR8Z5jdHi6BmyTfq"),
			[]string{"write /data/**"},
			"write /data/V1StGXR8Z5jdHi6BmyTfq became write /data/**: a long random name differs from run to run",
		},
		"numbers": {
			writes("/var/lib/pg/15/base/1/2619", "/var/lib/pg/15/base/4/2619"),
			[]string{"write /var/lib/pg/15/base/**"},
			"write /var/lib/pg/15/base/1/2619 and 1 more became write /var/lib/pg/15/base/**: names that differ in a number or in random letters were seen",
		},
		"sequence": {
			writes("/srv/db/000017.log", "/srv/db/000018.log", "/srv/db/LOCK"),
			[]string{"write /srv/db/**"},
			"write /srv/db/000017.log and 2 more became write /srv/db/**: names that differ in a number or in random letters were seen",
		},
		"process": {
			reads("/proc/1/maps"),
			[]string{"read /proc/**"},
			"read /proc/1/maps became read /proc/**: process ids differ from run to run",
		},
		"with a pattern": {
			reads("/srv/a/17/b/**", "/srv/a/18/c"),
			[]string{"read /srv/a/**"},
			"read /srv/a/17/b/** and 1 more became read /srv/a/**: names that differ in a number or in random letters were seen",
		},
		"socket": {
			[]event.Key{on(event.OpUnixConnect, "/run/app"+uuid)},
			[]string{"unix_connect /run/app/**"},
			"unix_connect /run/app" + uuid + " became unix_connect /run/app/**: a UUID differs from run to run",
		},
		"ephemeral ports": {
			[]event.Key{to(event.OpBind, udp, "127.0.0.1", 40000), to(event.OpBind, udp, "127.0.0.1", 60999), to(event.OpBind, udp, "127.0.0.1", 53)},
			[]string{"bind udp 127.0.0.1 port any"},
			"bind udp 127.0.0.1 port 53 and 2 more became bind udp 127.0.0.1 port any: 2 ephemeral ports were seen",
		},

		"letters without a separator": {writes("/srv/a/ccPo8R2b", "/srv/a/ccq3Xz9a"), []string{"write /srv/a/ccPo8R2b", "write /srv/a/ccq3Xz9a"}, ""},
		"one number":                  {writes("/srv/a/17", "/srv/a/x"), []string{"write /srv/a/17", "write /srv/a/x"}, ""},
		"numbers of others":           {append(writes("/srv/a/17"), reads("/srv/a/18")...), []string{"write /srv/a/17", "read /srv/a/18"}, ""},
		"short numbers":               {reads("/srv/lib.so.1", "/srv/lib.so.2"), []string{"read /srv/lib.so.1", "read /srv/lib.so.2"}, ""},
		"words":                       {reads("/opt/x/libQt5WebEngineCore.so.5.15", "/opt/x/tmpfiles.d", "/opt/x/temporary"), []string{"read /opt/x/libQt5WebEngineCore.so.5.15", "read /opt/x/temporary", "read /opt/x/tmpfiles.d"}, ""},
		"executable":                  {[]event.Key{binary("/srv/a" + uuid)}, []string{"/srv/a" + uuid}, ""},
		"library":                     {[]event.Key{on(event.OpLibrary, "/srv/a"+uuid)}, []string{"library /srv/a" + uuid}, ""},
		"root directory":              {writes(uuid), []string{"write " + uuid}, ""},
		"processes written to":        {writes("/proc/1/comm", "/proc/2/comm"), []string{"write /proc/1/comm", "write /proc/2/comm"}, ""},
		"abstract socket":             {[]event.Key{on(event.OpUnixConnect, "@/a"+uuid)}, []string{"unix_connect @/a" + uuid}, ""},
		"one ephemeral port":          {[]event.Key{to(event.OpConnect, tcp, "127.0.0.1", 40000), to(event.OpConnect, tcp, "127.0.0.2", 40001)}, []string{"connect tcp 127.0.0.1 port 40000", "connect tcp 127.0.0.2 port 40001"}, ""},
		"other ports":                 {[]event.Key{to(event.OpConnect, tcp, "127.0.0.1", 32767), to(event.OpConnect, tcp, "127.0.0.1", 61000)}, []string{"connect tcp 127.0.0.1 port 32767", "connect tcp 127.0.0.1 port 61000"}, ""},
		"listeners":                   {[]event.Key{to(event.OpListen, tcp, "127.0.0.1", 40000), to(event.OpListen, tcp, "127.0.0.1", 40001)}, []string{"listen tcp 127.0.0.1 port 40000", "listen tcp 127.0.0.1 port 40001"}, ""},
		"too long":                    {reads("/"+strings.Repeat("x", 200)+"/"+strings.Repeat("y", 40)+"/17", "/"+strings.Repeat("x", 200)+"/"+strings.Repeat("y", 40)+"/18"), []string{"read /" + strings.Repeat("x", 200) + "/" + strings.Repeat("y", 40) + "/17", "read /" + strings.Repeat("x", 200) + "/" + strings.Repeat("y", 40) + "/18"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := list(t, tc.keys...)
			var got, why []string
			for _, w := range p.Generalise() {
				why = append(why, w.String())
			}
			for _, k := range p.Keys() {
				got = append(got, k.String())
			}
			if !slices.Equal(got, tc.want) || strings.Join(why, "\n") != tc.why {
				t.Errorf("lists %q, want %q; tells\n%s\nwant\n%s", got, tc.want, strings.Join(why, "\n"), tc.why)
			}
			if total := uint64(len(tc.keys)); counted(p) != total {
				t.Errorf("counts %d of %d", counted(p), total)
			}
		})
	}
}

func counted(p *Profile) uint64 {
	var n uint64
	for _, e := range p.entries.all() {
		n += e.count
	}
	return n
}

// Whatever is there, what a system consists of is never allowed as a whole.
func TestGeneraliseNeverASystem(t *testing.T) {
	for _, dir := range []string{
		"", "/etc", "/usr", "/bin", "/lib", "/lib64", "/libx32", "/sbin", "/boot", "/root", "/dev", "/sys", "/home", "/home/user",
		"/var", "/var/lib", "/var/log", "/run", "/opt", "/srv",
	} {
		for o := event.OpRead; o <= event.OpUnixConnect; o++ {
			p := list(t, on(o, dir+uuid), on(o, dir+"/17"), on(o, dir+"/18"), on(o, dir+uuid+uuid+uuid))
			for _, w := range p.Generalise() {
				if w.To.Path == dir+"/**" {
					t.Errorf("%s", w)
				}
			}
			if p.Allows(on(o, dir+"/passwd")) {
				t.Errorf("%s allowed in %q", o, dir)
			}
		}
	}
	for _, dir := range []string{"/etc/cron.d", "/usr/bin", "/usr/local/bin", "/lib/systemd", "/root/.ssh", "/boot/grub", "/dev/mapper", "/sys/fs/cgroup"} {
		p := list(t, append(writes(dir+uuid), on(event.OpCreate, dir+uuid))...)
		if w := p.Generalise(); w != nil {
			t.Errorf("%s", w)
		}
	}
}

// What was allowed stays allowed, a second time changes nothing, and the result depends on the keys alone.
func TestGeneraliseProperties(t *testing.T) {
	words := []string{"etc", "tmp", "var", "srv", "data", "proc", "17", "18", "000123.log", "000124.log", uuid[1:], "tmp.Ab3dEfGhIj", "ccq3Xz9a", "ccPo8R2b", "x"}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		keys := map[event.Key]bool{}
		for range 40 {
			var path strings.Builder
			for range 1 + r.IntN(4) {
				path.WriteString("/" + words[r.IntN(len(words))])
			}
			if r.IntN(8) == 0 {
				path.WriteString("/**")
			}
			keys[on(event.OpExec+event.Operation(r.IntN(6)), path.String())] = true
			address := []string{"", "10.0.0.0/8", "10.0.0.0/16", "10.0.0.1"}[r.IntN(4)]
			keys[to(event.OpConnect+event.Operation(r.IntN(4)), tcp, address, []uint16{0, 443, 40000, 40001, 40002}[r.IntN(5)])] = true
		}
		p := New("w", "unit", event.AllDimensions)
		for k := range keys {
			p.insert(k, entry{count: 1, first: secondOf(noon), last: secondOf(noon)})
		}
		again := p.Clone()
		told := fmt.Sprint(p.Generalise())
		for k := range keys {
			if !p.Allows(k) {
				t.Fatalf("seed %d: %s is not allowed any more", seed, k)
			}
		}
		if more := p.Generalise(); more != nil {
			t.Fatalf("seed %d: not idempotent: %s", seed, more)
		}
		if other := fmt.Sprint(again.Generalise()); other != told || again.Digest() != p.Digest() {
			t.Fatalf("seed %d: not deterministic:\n%s\n%s", seed, told, other)
		}
		bytes := 0
		for _, k := range p.Keys() {
			bytes += len(k.Path)
			if err := check(k); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if bytes != p.bytes {
			t.Fatalf("seed %d: counts %d bytes of %d", seed, p.bytes, bytes)
		}
	}
}

func TestGeneraliseOnlyWhatLearns(t *testing.T) {
	p := list(t, binary("/bin/a"), on(event.OpRead, "/srv/a"+uuid))
	p.Freeze()
	if w := p.Generalise(); w != nil || p.Len() != 2 {
		t.Errorf("a frozen profile was widened: %s", w)
	}
}

// Most names that mkstemp and its like make are told from one, and hardly one that people make.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	for name, tc := range map[string]struct {
		prefix  string
		length  int
		charset string
		least   int // of 1,000
	}{
		"mktemp": {"tmp.", 10, letters, 990}, "python": {"tmp", 8, letters[:26] + "0123456789_", 850},
		"sha256": {"", 64, "0123456789abcdef", 1000}, "nanoid": {"", 21, letters, 700},
	} {
		found := 0
		for range 1000 {
			word := []byte(tc.prefix)
			for range tc.length {
				word = append(word, tc.charset[r.IntN(len(tc.charset))])
			}
			if random(string(word)) != "" {
				found++
			}
		}
		if found < tc.least {
			t.Errorf("%s: %d of 1000 are told", name, found)
		}
	}
	for _, name := range []string{
		"", "passwd", "nginx.conf", "libssl.so.3", "x86_64-linux-gnu", "python3.11", "postgresql-15-main.log", "systemd-journald.service",
		"UTF-16.so", "__init__.cpython-311.pyc", "NetworkManager-dispatcher", "en_US.UTF-8", "tmpfiles", "tmp", "tmp.conf", "java-17-openjdk-amd64",
		"ApplicationConfiguration.class", "0123-4567", "ca-certificates.crt", "zoneinfo", "deadbeef",
	} {
		if why := random(name); why != "" {
			t.Errorf("%s: %s", name, why)
		}
	}
}

// BenchmarkGeneralise is about the largest profile, of which each path becomes a pattern.
func BenchmarkGeneralise(b *testing.B) {
	full := New("w", "unit", event.AllDimensions)
	for i := range MaxEntries {
		full.Add(on(event.OpRead, fmt.Sprintf("/srv/%d%s/x", i, uuid)), false, noon)
	}
	for b.Loop() {
		if got := full.Clone().Generalise(); len(got) != MaxEntries {
			b.Fatalf("%d widenings", len(got))
		}
	}
}
