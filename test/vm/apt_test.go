package vm

import (
	"reflect"
	"strings"
	"testing"
)

const debianSources = `Types: deb deb-src
# http://snapshot.example/debian
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /keys/debian.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 Version: x
 .
 -----END PGP PUBLIC KEY BLOCK-----
`

func TestSources(t *testing.T) {
	main := source{"http://mirror.example/debian", []string{"bookworm", "bookworm-updates"}, []string{"main"}, "/keys/debian.gpg"}
	security := source{"http://mirror.example/debian-security", []string{"bookworm-security"}, []string{"main", "contrib"}, ""}
	for name, tc := range map[string]struct {
		parse func(string) []source
		text  string
		want  []source
	}{
		"stanzas":            {parseDeb822, debianSources, []source{main, security}},
		"carriage returns":   {parseDeb822, strings.ReplaceAll(debianSources, "\n", "\r\n"), []source{main, security}},
		"blank line of tabs": {parseDeb822, strings.ReplaceAll(debianSources, "\n\n", "\n\t\n"), []source{main, security}},
		"continued field": {
			parseDeb822, "Types: deb\nURIs: http://a/debian\n http://b/debian\nSuites: sid\nComponents: main\n",
			[]source{{"http://a/debian", []string{"sid"}, []string{"main"}, ""}, {"http://b/debian", []string{"sid"}, []string{"main"}, ""}},
		},
		"only sources":   {parseDeb822, "Types: deb-src\nURIs: http://a/debian\nSuites: sid\nComponents: main\n", nil},
		"switched off":   {parseDeb822, "Enabled: no\nTypes: deb\nURIs: http://a/debian\nSuites: sid\n", nil},
		"nothing":        {parseDeb822, "", nil},
		"one line":       {parseOneLine, "deb http://a/debian sid main contrib # why\n", []source{{"http://a/debian", []string{"sid"}, []string{"main", "contrib"}, ""}}},
		"with options":   {parseOneLine, "deb [ arch=amd64 signed-by=/k.gpg ] http://a/debian sid main", []source{{"http://a/debian", []string{"sid"}, []string{"main"}, "/k.gpg"}}},
		"tab after deb":  {parseOneLine, "deb\thttp://a/debian\tsid\tmain", []source{{"http://a/debian", []string{"sid"}, []string{"main"}, ""}}},
		"comments":       {parseOneLine, "# deb http://a/debian sid main\n\ndeb-src http://a/debian sid main\n", nil},
		"half a line":    {parseOneLine, "deb http://a/debian\n", nil},
		"open bracket":   {parseOneLine, "deb [signed-by=/k.gpg http://a/debian sid main\n", []source{{"[signed-by=/k.gpg", []string{"http://a/debian"}, []string{"sid", "main"}, ""}}},
		"bracket, empty": {parseOneLine, "deb []\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.parse(tc.text); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestArchiveFor(t *testing.T) {
	machine := append(parseOneLine(`
deb https://download.example/linux/debian bookworm stable
deb https://node.example/node_20.x nodistro main
deb https://apt.example/repos/apt bookworm-pgdg main
deb https://cloud.example/apt cloud-sdk-bookworm main
`), parseDeb822(debianSources)...)
	for name, tc := range map[string]struct {
		suites []string
		want   string
	}{
		"main archive": {[]string{"trixie"}, "deb [arch=arm64 signed-by=/keys/debian.gpg] http://mirror.example/debian trixie main\n"},
		"backports":    {[]string{"trixie-backports"}, "deb [arch=arm64 signed-by=/keys/debian.gpg] http://mirror.example/debian trixie-backports main\n"},
		"security": {
			[]string{"bullseye-security"},
			"deb [arch=arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian-security bullseye-security main\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := sourcesList(machine, "arm64", tc.suites); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
	if got := sourcesList(machine[:4], "amd64", []string{"trixie", "trixie-security"}); got != "" {
		t.Errorf("found Debian in archives of others: %q", got)
	}
	withoutSecurity := sourcesList(machine[:5], "amd64", []string{"bookworm", "bookworm-security"})
	if strings.Count(withoutSecurity, "\n") != 1 {
		t.Errorf("want only the main archive, got %q", withoutSecurity)
	}
}

func TestParseDepends(t *testing.T) {
	out := "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n |Depends: a:any\n  Depends: <virtual>\n  Recommends: b\n"
	want := []string{"linux-image-6.1.0-56-cloud-amd64", "a", "<virtual>"}
	if got := parseDepends(out); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzSources(f *testing.F) {
	f.Add(debianSources)
	f.Add("deb [ arch=amd64 signed-by=/k.gpg ] http://a/debian sid main\n")
	f.Add("deb []")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range append(parseDeb822(text), parseOneLine(text)...) {
			if s.uri == "" || strings.ContainsAny(s.uri, " \t\n") {
				t.Errorf("archive %q of %q", s.uri, text)
			}
		}
		if list := sourcesList(parseDeb822(text), "amd64", []string{"sid"}); strings.Count(list, "\n") > 1 {
			t.Errorf("%q makes more than one line: %q", text, list)
		}
	})
}

func FuzzParseDepends(f *testing.F) {
	f.Add("x\n  Depends: y\n |Depends: z:any\n")
	f.Fuzz(func(t *testing.T, out string) {
		for _, name := range parseDepends(out) {
			if strings.ContainsAny(name, ":\n") {
				t.Errorf("name %q of %q", name, out)
			}
		}
	})
}
