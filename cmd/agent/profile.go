package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/wholefile"
)

// readProfile reads a baseline; - is standard input.
func readProfile(cmd *cobra.Command, file string) (*baseline.Profile, error) {
	var data []byte
	var err error
	if file == "-" {
		file = "standard input"
		data, err = io.ReadAll(cmd.InOrStdin())
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read baseline: %w", err)
	}
	return baseline.Parse(file, data)
}

// writeProfile writes a baseline; - is standard output.
func writeProfile(cmd *cobra.Command, file string, p *baseline.Profile) error {
	if err := writeFile(cmd, file, p.Marshal()); err != nil {
		return fmt.Errorf("write baseline: %w", err)
	}
	return nil
}

// writeFile writes a result; - is standard output. A file is replaced as a whole, or stays as it is.
func writeFile(cmd *cobra.Command, file string, text []byte) error {
	if file == "-" {
		_, err := cmd.OutOrStdout().Write(text)
		return err
	}
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(file, text, 0) // a device or a fifo
	}
	return wholefile.Write(file, text, 0o644)
}

// dimensionList names the dimensions of a set.
func dimensionList(dims event.Dimensions) []string {
	names := []string{}
	for d := range event.DimCount {
		if dims.Has(d) {
			names = append(names, d.String())
		}
	}
	return names
}

// keyList is the text of keys.
func keyList(keys []event.Key) []string {
	texts := make([]string, len(keys))
	for i, k := range keys {
		texts[i] = k.String()
	}
	return texts
}

// formatFlag is --output of a verb that has text and not a table.
func formatFlag(cmd *cobra.Command, formats ...string) *string {
	o := cmd.Flags().StringP("output", "o", "text", formatNames(formats))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return o
}

func formatNames(formats []string) string {
	names := formats[0]
	for i, f := range formats[1:] {
		if i == len(formats)-2 {
			names += " or " + f
		} else {
			names += ", " + f
		}
	}
	return names
}

func checkFormat(o string, formats ...string) error {
	for _, f := range formats {
		if o == f {
			return nil
		}
	}
	return usageError{fmt.Errorf("read --output: unknown format %q: want %s", o, formatNames(formats))}
}
