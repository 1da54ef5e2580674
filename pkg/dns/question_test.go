package dns

import (
	"encoding/base32"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// query is a message as resolvers make it.
func query(t testing.TB, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// header of a query with one question.
func header() []byte { return []byte{0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0} }

func TestRead(t *testing.T) {
	for name, tc := range map[string]struct {
		message []byte
		want    Question
	}{
		"address":      {query(t, "www.Example.COM.", dnsmessage.TypeA), Question{"www.example.com", 1, 3, 7, 303}},
		"text":         {query(t, "s1._domainkey.example.com.", dnsmessage.TypeTXT), Question{"s1._domainkey.example.com", 16, 4, 10, 385}},
		"one label":    {query(t, "aaaa.", dnsmessage.TypeAAAA), Question{"aaaa", 28, 1, 4, 0}},
		"root":         {query(t, ".", dnsmessage.TypeNS), Question{".", 2, 0, 0, 0}},
		"even":         {query(t, "ab.cd.", dnsmessage.TypeA), Question{"ab.cd", 1, 2, 2, 200}},
		"letters":      {query(t, "aA.", dnsmessage.TypeA), Question{"aa", 1, 1, 2, 0}},
		"unprintable":  {append(header(), "\x04a.\xff \x00\x00\x0a\x00\x01"...), Question{"a???", 10, 1, 4, 200}},
		"further data": {append(query(t, "x.y.", dnsmessage.TypeMX), 1, 2, 3), Question{"x.y", 15, 2, 1, 100}},
	} {
		if got, ok := Read(tc.message); !ok || got != tc.want {
			t.Errorf("%s: %+v, %t, want %+v", name, got, ok, tc.want)
		}
	}
}

func TestNoQuestion(t *testing.T) {
	with := func(at int, value byte) []byte {
		m := query(t, "example.com.", dnsmessage.TypeA)
		m[at] = value
		return m
	}
	long := append(header(), strings.Repeat("\x3f"+strings.Repeat("a", 63), 4)...)
	for name, message := range map[string][]byte{
		"nothing": nil, "cut header": header()[:11], "header alone": header(), "response": with(2, 0x81), "update": with(2, 0x28),
		"no questions": with(5, 0), "pointer": with(12, 0xc0), "reserved": with(12, 0x40), "cut name": query(t, "example.com.", 1)[:20],
		"cut class": query(t, "example.com.", 1)[:28], "no end": append(header(), "\x01x"...), "too long": append(long, 0, 0, 1, 0, 1),
	} {
		if got, ok := Read(message); ok || got != (Question{}) {
			t.Errorf("%s: %+v, %t", name, got, ok)
		}
	}
}

func TestAsk(t *testing.T) {
	label := strings.Repeat("a", MaxLabel)
	longest := strings.Join([]string{label, label, label, strings.Repeat("b", 61)}, ".")
	for name, ok := range map[string]bool{
		"www.example.com": true, "www.example.com.": true, ".": true, longest: true, longest + ".": true, longest + "b": false,
		label + "a.com": false, "": false, "a..b": false, ".a": false,
	} {
		q, is := Ask(name, 1)
		if want := strings.TrimSuffix(name, "."); is != ok || ok && name != "." && q.Name != want {
			t.Errorf("%q: %+v, %t", name, q, is)
		}
	}
	if q, _ := Ask(longest, 16); len(q.Name) != MaxName || q.Labels != 4 || q.Longest != MaxLabel || q.Type != 16 {
		t.Errorf("%+v", q)
	}
}

func TestDomain(t *testing.T) {
	for name, want := range map[string]string{
		"a.b.example.com": "example.com", "example.com": "example.com", "com": "com", ".": ".", "": "", "x.co.uk": "co.uk",
	} {
		if got := Domain(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestTypes(t *testing.T) {
	names := map[string]bool{}
	for n := range 1 << 16 {
		kind := Type(n)
		if got, ok := ParseType(kind.String()); !ok || got != kind || names[kind.String()] {
			t.Errorf("%d is %s, read as %d, %t", n, kind, got, ok)
		}
		names[kind.String()] = true
	}
	for kind, want := range map[Type]string{1: "A", 10: "NULL", 16: "TXT", 257: "CAA", 99: "TYPE99"} {
		if kind.String() != want {
			t.Errorf("%d is %s, want %s", kind, kind, want)
		}
	}
	for _, wrong := range []string{"", "a", "TYPE1", "TYPE01", "TYPE65536", "99", "TYPE"} {
		if got, ok := ParseType(wrong); ok {
			t.Errorf("%q is read as %s", wrong, got)
		}
	}
}

// Data in a name has more entropy than most names. It is no more than a hint: names in words have as much.
func TestEntropy(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	data := make([]byte, 60)
	_, _ = random.Read(data)
	base32 := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(data[:35]))
	for name, between := range map[string][2]int{
		base32 + ".t.example.com":                             {400, 500},
		hex.EncodeToString(data[:30]) + ".t.example.com":      {350, 450},
		strings.Repeat("0.", 24) + "8.b.d.0.1.0.0.2.ip6.arpa": {0, 250},
		"www.example.com":                                     {250, 350},
		"production-events-kafka-0.production-events-kafka-headless.production-messaging.svc.cluster.local": {350, 450},
	} {
		q, ok := Ask(name, 1)
		if !ok || q.Entropy < between[0] || q.Entropy > between[1] {
			t.Errorf("%s: %d, want between %v", name, q.Entropy, between)
		}
	}
}

func TestReadDoesNotAllocate(t *testing.T) {
	kept := query(t, strings.Repeat("0123456789abcdef0123456789abcdef.", 7)+"example.com.", dnsmessage.TypeTXT)
	message := make([]byte, len(kept))
	if n := testing.AllocsPerRun(100, func() {
		copy(message, kept)
		if _, ok := Read(message); !ok {
			t.Error("not read")
		}
	}); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

func BenchmarkRead(b *testing.B) {
	kept := query(b, strings.Repeat("0123456789abcdef0123456789abcdef.", 7)+"example.com.", dnsmessage.TypeTXT)
	message := make([]byte, len(kept))
	for b.Loop() {
		copy(message, kept)
		Read(message)
	}
}

// Whatever is read, another parser reads the same.
func FuzzRead(f *testing.F) {
	f.Add(query(f, "www.example.com.", dnsmessage.TypeA))
	f.Add(query(f, ".", dnsmessage.TypeNS))
	f.Add(append(header(), "\x04a.\xff \x00\x00\x0a\x00\x01"...))
	f.Add(append(header(), "\x01x\xc0\x0c\x00\x01\x00\x01"...))
	f.Fuzz(func(t *testing.T, message []byte) {
		kept := append([]byte(nil), message...)
		q, ok := Read(message)
		if q.Entropy < 0 || q.Entropy > 800 || q.Longest > MaxLabel || len(q.Name) > MaxName || ok != (q.Name != "") {
			t.Errorf("%+v, %t", q, ok)
		}
		var p dnsmessage.Parser
		h, err := p.Start(kept)
		if err != nil {
			if ok {
				t.Fatalf("%+v of no message: %v", q, err)
			}
			return
		}
		theirs, err := p.Question()
		switch {
		case ok && err == nil:
			text := []byte(strings.TrimSuffix(string(theirs.Name.Data[:theirs.Name.Length]), "."))
			for i, c := range text {
				if c != '.' {
					clean(text[i : i+1])
				}
			}
			if got := strings.TrimSuffix(q.Name, "."); got != string(text) || uint16(q.Type) != uint16(theirs.Type) {
				t.Errorf("%+v, they read %s", q, theirs.GoString())
			}
		case ok && !strings.Contains(q.Name, "?"): // they refuse labels with a dot
			t.Errorf("%+v, they read %v", q, err)
		case !ok && err == nil && !h.Response && h.OpCode == 0 && !hasPointer(kept[headerBytes:]):
			t.Errorf("not read, and they read %s", theirs.GoString())
		}
	})
}

// hasPointer says whether a name ends in one.
func hasPointer(name []byte) bool {
	for at := 0; at < len(name); at += 1 + int(name[at]) {
		if name[at] >= 0xc0 {
			return true
		}
		if name[at] == 0 {
			return false
		}
	}
	return false
}
