package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	output := "table"
	var formats []string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  plumbline version\n  plumbline version -o json | jq -r .version",
		Args:    cobra.NoArgs,
	}
	cmd.RunE = work(func(cmd *cobra.Command) (err error) {
		if err := checkOutput(output, formats); err != nil {
			return err
		}
		platform := runtime.GOOS + "/" + runtime.GOARCH
		if output == "json" {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{
				"version": version, "go": runtime.Version(), "platform": platform,
			})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "plumbline %s %s %s\n", version, runtime.Version(), platform)
		return err
	})
	formats = registerOutput(cmd, &output)
	return cmd
}
