package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	output := "table"
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  plumbline version\n  plumbline version -o json | jq -r .version",
		Args:    cobra.NoArgs,
	}
	cmd.RunE = work(func(cmd *cobra.Command) (err error) {
		if err := checkOutput(output); err != nil {
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
	registerOutput(cmd, &output)
	return cmd
}
