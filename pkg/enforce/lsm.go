package enforce

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/sensor"
)

const lsmList = "/sys/kernel/security/lsm"

// lsmActive says whether the kernel calls BPF LSM programs at all.
func lsmActive() error {
	list, err := os.ReadFile(lsmList)
	if err != nil {
		return fmt.Errorf("%w: cannot read %s (is securityfs mounted?)", sensor.ErrNotSupported, lsmList)
	}
	names := strings.TrimSpace(string(list))
	for _, name := range strings.Split(names, ",") {
		if name == "bpf" {
			return nil
		}
	}
	return fmt.Errorf("%w: bpf is not in the list of LSMs (%s); boot with lsm=%s,bpf", sensor.ErrNotSupported, names, names)
}

// reason makes one line of an error chain that may end in a verifier log.
func reason(err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, unix.EPERM) {
		return "the kernel does not permit programs of this type"
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
