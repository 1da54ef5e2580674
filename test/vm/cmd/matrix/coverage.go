package main

import (
	"fmt"
	"strconv"
	"strings"
)

// coverage counts the statements of tested packages, and those of them that ran.
type coverage struct{ statements, ran int }

// add reads a profile of go test -coverprofile: FILE:POSITIONS STATEMENTS TIMES.
func (c *coverage) add(profile []byte) error {
	for line := range strings.Lines(string(profile)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[0] == "mode:" {
			continue
		}
		if len(fields) != 3 {
			return fmt.Errorf("read coverage: %q is no block", line)
		}
		n, err := strconv.Atoi(fields[1])
		if err != nil {
			return fmt.Errorf("read coverage: %q: %w", line, err)
		}
		c.statements += n
		if fields[2] != "0" {
			c.ran += n
		}
	}
	return nil
}

func (c *coverage) String() string {
	if c.statements == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(c.ran)/float64(c.statements))
}
