package agent

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const maxConfigBytes = 1 << 20

// ReadConfig reads a YAML file. Unknown fields are errors; every error names file and line.
func ReadConfig(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return Config{}, fmt.Errorf("read configuration %s: %w", path, err)
	}
	if len(data) > maxConfigBytes {
		return Config{}, fmt.Errorf("read configuration %s: more than %d bytes", path, maxConfigBytes)
	}
	return parseConfig(path, data)
}

func parseConfig(path string, data []byte) (Config, error) {
	var c Config
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	err := dec.Decode(&c)
	var wrong *yaml.TypeError
	switch {
	case errors.Is(err, io.EOF): // an empty file is all defaults
		return c, nil
	case errors.As(err, &wrong):
		return c, configError(path, wrong.Errors[0], data)
	case err != nil:
		return c, configError(path, strings.TrimPrefix(err.Error(), "yaml: "), data)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("read configuration %s: it holds more than one document", path)
	}
	return c, nil
}

// configError puts what yaml says into our form: file:line: what is wrong, without names of Go types.
func configError(path, text string, data []byte) error {
	at := path
	line := 0
	if after, ok := strings.CutPrefix(text, "line "); ok {
		digits, rest, _ := strings.Cut(after, ": ")
		line, _ = strconv.Atoi(digits)
		at, text = path+":"+digits, rest
	}
	if field, _, ok := strings.Cut(text, " not found in type "); ok {
		text = "unknown " + field
	}
	if got, ok := strings.CutPrefix(text, "cannot unmarshal "); ok {
		text = mismatch(got, line, data)
	}
	return fmt.Errorf("read configuration %s: %s", at, text)
}

// mismatch says in words that a value is not of the type of its key, of a text such as "!!str `x` into int".
func mismatch(text string, line int, data []byte) string {
	got, kind, _ := strings.Cut(text, " into ")
	tag, value, _ := strings.Cut(got, " ")
	value = strings.TrimSuffix(strings.Trim(value, "`"), "...") // of a long one it is the begin
	is, got := yaml.ScalarNode, strconv.Quote(value)
	switch tag {
	case "!!seq":
		is, got = yaml.SequenceNode, "a list"
	case "!!map":
		is, got = yaml.MappingNode, "keys and values"
	}
	want := "keys and values"
	switch kind {
	case "string":
		want = "a text"
	case "[]string":
		want = "a list"
	case "int", "int64":
		want = "a number"
	case "uint16":
		want = "a number from 0 to 65535"
	}
	key := "the file"
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err == nil && len(root.Content) > 0 {
		wrong := func(n *yaml.Node) bool { return n.Kind == is && n.Line == line && strings.HasPrefix(n.Value, value) }
		key = cmp.Or(keyOf(root.Content[0], "", wrong), key)
	}
	return key + " is " + got + ", want " + want
}

// keyOf finds the key whose value is so, "" if there is none.
func keyOf(n *yaml.Node, path string, is func(value *yaml.Node) bool) string {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		key, value := path+n.Content[i].Value, n.Content[i+1]
		if is(value) {
			return key
		}
		if found := keyOf(value, key+".", is); found != "" {
			return found
		}
	}
	return ""
}
