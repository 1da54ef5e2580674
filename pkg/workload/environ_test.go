package workload

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func isSecretive(name string) bool { return name == "PATH" || name == "EMPTY" }

// Of the variables that nobody asks for, the names alone are kept.
func TestParseEnviron(t *testing.T) {
	long := strings.Repeat("x", 3*maxVariable)
	for name, tc := range map[string]struct {
		text, names string
		values      map[string][]string
		cut         bool
	}{
		"some":         {"PATH=/bin\x00TOKEN=secret\x00EMPTY=\x00", "PATH TOKEN EMPTY", map[string][]string{"PATH": {"/bin"}, "EMPTY": {""}}, false},
		"no end":       {"PATH=a=b", "PATH", map[string][]string{"PATH": {"a=b"}}, false},
		"no names":     {"secret\x00=secret\x00\x00" + strings.Repeat("n", 257) + "=secret\x00A=", "A", nil, false},
		"none":         {"", "", nil, false},
		"a long one":   {"A=" + long + "\x00PATH=/bin\x00", "A PATH", map[string][]string{"PATH": {"/bin"}}, true},
		"a long value": {"PATH=" + long, "PATH", map[string][]string{"PATH": {long[:maxVariable-5]}}, true},
		"twice":        {"PATH=/evil\x00PATH=/bin\x00", "PATH PATH", map[string][]string{"PATH": {"/evil", "/bin"}}, false},
		"often":        {"PATH=/a\x00PATH=/b\x00EMPTY=\x00PATH=/c\x00PATH=/d\x00", "PATH PATH EMPTY PATH PATH", map[string][]string{"PATH": {"/a", "/d"}, "EMPTY": {""}}, true},
		"too many":     {strings.Repeat("AAAAAAAAAAAAAAA=\x00", 5000), strings.TrimSuffix(strings.Repeat("AAAAAAAAAAAAAAA ", 4096), " "), nil, true},
		"too much":     {strings.Repeat("A="+strings.Repeat("x", 1021)+"\x00", 2048) + "PATH=/bin\x00", strings.TrimSuffix(strings.Repeat("A ", 2048), " "), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseEnviron(strings.NewReader(tc.text), isSecretive)
			if err != nil || got.Names != tc.names || got.Cut != tc.cut || len(got.Values) != len(tc.values) {
				t.Errorf("%d bytes of names, %d values, cut %t, %v", len(got.Names), len(got.Values), got.Cut, err)
			}
			for k, v := range tc.values {
				if !slices.Equal(got.Values[k], v) {
					t.Errorf("%s is %.60q", k, got.Values[k])
				}
			}
		})
	}
}

// lender remembers the buffer that it is first asked to read into.
type lender struct {
	io.Reader
	buffer []byte
}

func (l *lender) Read(p []byte) (int, error) {
	if l.buffer == nil {
		l.buffer = p
	}
	return l.Reader.Read(p)
}

// Of what was read, nothing stays in memory but what is returned.
func TestParseEnvironWipes(t *testing.T) {
	errBroken := errors.New("broken")
	long := "LONG=" + strings.Repeat("secret", maxVariable/4)
	for name, text := range map[string]string{"short": "TOKEN=secret\x00A=secret", "long": long + "\x00A=b\x00", "long, the last": "A=b\x00" + long, "many": strings.Repeat("A=secret\x00", 10_000)} {
		for _, failure := range []error{io.EOF, errBroken} {
			in := &lender{Reader: io.MultiReader(strings.NewReader(text), iotest.ErrReader(failure))}
			if _, err := parseEnviron(in, isSecretive); (err != nil) != (failure == errBroken) {
				t.Errorf("%s: %v", name, err)
			}
			if len(in.buffer) != maxVariable || strings.Trim(string(in.buffer), "\x00") != "" {
				t.Errorf("%s, %v: a buffer of %d bytes, with %.20q", name, failure, len(in.buffer), strings.Trim(string(in.buffer), "\x00"))
			}
		}
	}
}

func FuzzParseEnviron(f *testing.F) {
	f.Add("PATH=/bin\x00TOKEN=secret\x00EMPTY=\x00")
	f.Add("=\x00a\x00=b")
	f.Fuzz(func(t *testing.T, text string) {
		env, err := parseEnviron(strings.NewReader(text), isSecretive)
		if err != nil || len(env.Names) > maxVariableNames || len(env.Values) > 2 || len(env.Values["PATH"]) > 2 {
			t.Errorf("%d bytes of names, %d values, %v", len(env.Names), len(env.Values), err)
		}
	})
}

// It is that of the process, and of no other one that has its number.
func TestEnviron(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	cmd.Env = []string{"PATH=/bin", "TOKEN=secret"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	proc, pid := NewProc(""), uint32(cmd.Process.Pid)
	is, err := proc.Read(pid)
	if err != nil {
		t.Fatal(err)
	}
	env, err := proc.Environ(pid, is.Start, isSecretive)
	for end := time.Now().Add(10 * time.Second); err == nil && env.Names == "" && time.Now().Before(end); {
		env, err = proc.Environ(pid, is.Start, isSecretive) // it is a program already, and has no environment for a moment
	}
	if err != nil || env.Names != "PATH TOKEN" || len(env.Values) != 1 || !slices.Equal(env.Values["PATH"], []string{"/bin"}) || env.Cut {
		t.Errorf("%+v, %v", env, err)
	}
	for _, start := range []uint64{is.Start + 1} {
		if env, err := proc.Environ(pid, start, isSecretive); !errors.Is(err, ErrGone) {
			t.Errorf("%+v, %v", env, err)
		}
	}
	if _, err := proc.Environ(uint32(os.Getpid()), 0, isSecretive); err != nil {
		t.Error(err)
	}
}
