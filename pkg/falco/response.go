package falco

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/falcosecurity/client-go/pkg/api/outputs"
	"github.com/falcosecurity/client-go/pkg/api/schema"
	"github.com/falcosecurity/client-go/pkg/api/version"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// encode makes Falco's form of an alert, which has no place for what is not Falco's.
func encode(a alert.Alert) *outputs.Response {
	r := &outputs.Response{
		Time: timestamppb.New(a.Time), Priority: schema.Priority(a.Severity), Rule: clean(a.Rule), Output: clean(a.Output),
		Hostname: clean(a.Hostname), Source: clean(a.Source), OutputFields: make(map[string]string, len(a.Fields)),
	}
	for _, tag := range a.Tags {
		r.Tags = append(r.Tags, clean(tag))
	}
	for k, v := range a.Fields {
		if v == nil {
			v = notAvailable
		}
		r.OutputFields[clean(k)] = clean(fmt.Sprint(v))
	}
	return r
}

// clean makes text that protobuf takes: names of files are any bytes, and one wrong byte would end the
// stream.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// parseVersion reads v1.2.3-rc.1+build. What has no such form is told as it is.
func parseVersion(s string) *version.Response {
	r := &version.Response{Version: clean(s)}
	rest, build, _ := strings.Cut(strings.TrimPrefix(r.Version, "v"), "+")
	rest, prerelease, _ := strings.Cut(rest, "-")
	var numbers [3]uint32
	parts := strings.Split(rest, ".")
	if len(parts) != len(numbers) {
		return r
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return r
		}
		numbers[i] = uint32(n)
	}
	r.Major, r.Minor, r.Patch, r.Prerelease, r.Build = numbers[0], numbers[1], numbers[2], prerelease, build
	return r
}
