package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// source is one archive of the machine's own apt configuration.
type source struct {
	uri        string
	suites     []string
	components []string
	signedBy   string // a file; empty: not said, or the key itself is in the configuration
}

// machineSources reads what this machine installs packages from, so that the kernels come from the
// same mirror and are checked with the same keys.
func machineSources(etc string) ([]source, error) {
	var all []source
	files, err := filepath.Glob(filepath.Join(etc, "sources.list.d", "*"))
	if err != nil {
		return nil, err
	}
	for _, file := range append(files, filepath.Join(etc, "sources.list")) {
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read apt sources: %w", err)
		}
		if strings.HasSuffix(file, ".sources") {
			all = append(all, parseDeb822(string(data))...)
		} else {
			all = append(all, parseOneLine(string(data))...)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("read apt sources: none in %s", etc)
	}
	return all, nil
}

// parseDeb822 reads the .sources form, see sources.list(5).
func parseDeb822(text string) []source {
	var all []source
	for _, stanza := range regexp.MustCompile(`\n[ \t]*\n`).Split(strings.ReplaceAll(text, "\r", ""), -1) {
		fields := deb822Fields(stanza)
		if !slices.Contains(strings.Fields(fields["types"]), "deb") || strings.EqualFold(fields["enabled"], "no") {
			continue
		}
		signedBy := fields["signed-by"]
		if !filepath.IsAbs(signedBy) {
			signedBy = ""
		}
		for _, uri := range strings.Fields(fields["uris"]) {
			all = append(all, source{uri, strings.Fields(fields["suites"]), strings.Fields(fields["components"]), signedBy})
		}
	}
	return all
}

// deb822Fields are the fields of a stanza by their names in lower case. A line that begins with a blank
// goes on with the field before it.
func deb822Fields(stanza string) map[string]string {
	fields := map[string]string{}
	last := ""
	for line := range strings.Lines(stanza) {
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, " "), strings.HasPrefix(line, "\t"):
			fields[last] = strings.TrimSpace(fields[last] + " " + strings.TrimSpace(line))
		default:
			key, value, _ := strings.Cut(line, ":")
			last = strings.ToLower(strings.TrimSpace(key))
			fields[last] = strings.TrimSpace(value)
		}
	}
	return fields
}

// parseOneLine reads the sources.list form.
func parseOneLine(text string) []source {
	var all []source
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		kind, rest, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(line), "\t", " "), " ")
		if kind != "deb" {
			continue
		}
		s := source{}
		rest = strings.TrimSpace(rest)
		if options, after, ok := strings.Cut(rest, "]"); ok && strings.HasPrefix(rest, "[") {
			rest = after
			for _, o := range strings.Fields(options[1:]) {
				if v, ok := strings.CutPrefix(o, "signed-by="); ok {
					s.signedBy = v
				}
			}
		}
		if f := strings.Fields(rest); len(f) >= 2 {
			s.uri, s.suites, s.components = f[0], f[1:2], f[2:]
			all = append(all, s)
		}
	}
	return all
}

// debianSuite matches the suites of Debian's own archives; others have names of their own there, or
// components other than main.
const debianSuite = `^(buster|bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable)(-security|-updates|-backports|/updates)?$`

// archiveFor picks the machine's archive that also has a suite: security suites live in an archive of
// their own.
func archiveFor(all []source, suite string) (source, bool) {
	debian := regexp.MustCompile(debianSuite)
	isSecurity := func(suite string) bool {
		return strings.HasSuffix(suite, "-security") || strings.HasSuffix(suite, "/updates")
	}
	for _, s := range all {
		if slices.Contains(s.components, "main") && slices.ContainsFunc(s.suites, debian.MatchString) &&
			slices.ContainsFunc(s.suites, isSecurity) == isSecurity(suite) {
			return s, true
		}
	}
	return source{}, false
}

// apt is a private apt directory: nothing of the machine's own lists or packages is touched.
type apt struct {
	dir  string
	arch string
}

// newApt makes a directory that has the suites of the machine's archives.
func newApt(dir, arch string, suites []string) (*apt, error) {
	machine, err := machineSources("/etc/apt")
	if err != nil {
		return nil, err
	}
	list := sourcesList(machine, arch, suites)
	if list == "" {
		return nil, fmt.Errorf("find archive of %s: the machine's apt sources have none of Debian's", strings.Join(suites, ", "))
	}
	return makeApt(dir, arch, list)
}

func makeApt(dir, arch, list string) (*apt, error) {
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("make apt directory: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/sources.list"), []byte(list), 0o644); err != nil {
		return nil, fmt.Errorf("write apt sources: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state/status"), nil, 0o644); err != nil {
		return nil, fmt.Errorf("write apt status: %w", err)
	}
	return &apt{dir: dir, arch: arch}, nil
}

// sourcesList is the private sources.list: the suites that the machine's archives have.
func sourcesList(machine []source, arch string, suites []string) string {
	var list strings.Builder
	for _, suite := range suites {
		s, ok := archiveFor(machine, suite)
		if !ok {
			continue
		}
		keys := s.signedBy
		if keys == "" {
			keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
		}
		fmt.Fprintf(&list, "deb [arch=%s signed-by=%s] %s %s main\n", arch, keys, s.uri, suite)
	}
	return list.String()
}

func (a *apt) command(program string, args ...string) *exec.Cmd {
	options := []string{
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(a.dir, "etc/sources.list"),
		"-o", "Dir::Etc::sourceparts=-", "-o", "Dir::Etc::preferencesparts=-",
		"-o", "Dir::State=" + filepath.Join(a.dir, "state"),
		"-o", "Dir::State::status=" + filepath.Join(a.dir, "state/status"),
		"-o", "Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"-o", "APT::Architecture=" + a.arch, "-o", "APT::Architectures::=" + a.arch,
		"-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root", "-qq",
		"-o", "APT::Update::Error-Mode=any", // by default an update without a network succeeds
	}
	cmd := exec.Command(program, append(options, args...)...)
	cmd.Dir = a.dir
	return cmd
}

func (a *apt) run(program string, args ...string) (string, error) {
	out, err := a.command(program, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, args[0], err, out)
	}
	return string(out), nil
}

// depends lists the direct dependencies of a package's newest version.
func (a *apt) depends(name string) ([]string, error) {
	out, err := a.run("apt-cache", "depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", name)
	if err != nil {
		return nil, err
	}
	return parseDepends(out), nil
}

func parseDepends(out string) []string {
	var names []string
	for _, line := range strings.Split(out, "\n") {
		if name, ok := strings.CutPrefix(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "|")), "Depends: "); ok {
			name, _, _ = strings.Cut(name, ":") // the architecture
			names = append(names, name)
		}
	}
	return names
}

// unpack downloads packages and unpacks them into a directory, without installing anything.
func (a *apt) unpack(to string, names ...string) error {
	debs := filepath.Join(a.dir, "debs")
	if err := os.RemoveAll(debs); err != nil {
		return err
	}
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return err
	}
	cmd := a.command("apt-get", append([]string{"download"}, names...)...)
	cmd.Dir = debs
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("download %s: %w: %s", names, err, out)
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range files {
		if out, err := exec.Command("dpkg-deb", "-x", deb, to).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w: %s", deb, err, out)
		}
	}
	return os.RemoveAll(debs)
}
