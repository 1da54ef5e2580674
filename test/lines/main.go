// Lines leaves of an object's lines of source those at which functions begin. The verifier wants these; the others
// only make its complaints easier to read, and with them an agent starts a tenth slower. It is called by bpf/strip.
//
//	go run ./test/lines pkg/enforce/bpf_x86_bpfel.o
package main

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
)

const section = ".BTF.ext"

func main() {
	for _, object := range os.Args[1:] {
		if err := shorten(object); err != nil {
			fmt.Fprintf(os.Stderr, "lines: %s: %v\n", object, err)
			os.Exit(1)
		}
	}
}

func shorten(object string) error {
	data, err := read(object)
	if err != nil {
		return err
	}
	if data, err = beginnings(data); err != nil {
		return fmt.Errorf("read %s: %w", section, err)
	}
	part, err := os.CreateTemp("", "lines-")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	defer part.Close()
	if _, err := part.Write(data); err != nil {
		return err
	}
	// What a linker of objects would need for the section is not true any more.
	args := []string{"--remove-section", ".rel" + section, "--update-section", section + "=" + part.Name(), object}
	if out, err := exec.Command("llvm-objcopy-19", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("write %s: %w: %s", section, err, out)
	}
	return nil
}

func read(object string) ([]byte, error) {
	f, err := elf.Open(object)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := f.Section(section)
	if s == nil {
		return nil, fmt.Errorf("there is no section %s", section)
	}
	return s.Data()
}
