package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/process"
	"github.com/runnel-dev/runnel/runtime/registry"
)

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that lets a shell complete commands, flags and names",
		Example: `  source <(runnel completion bash)
  runnel completion bash > /etc/bash_completion.d/runnel
  runnel completion zsh > "${fpath[1]}/_runnel"
  runnel completion fish > ~/.config/fish/completions/runnel.fish`,
		ValidArgs:             []string{"bash", "zsh", "fish"},
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(cmd.ValidArgs, args[0]) {
				return usageError{fmt.Errorf("expected one of bash, zsh and fish")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			switch args[0] {
			case "zsh":
				return cmd.Root().GenZshCompletion(out)
			case "fish":
				return cmd.Root().GenFishCompletion(out, true)
			}
			return cmd.Root().GenBashCompletionV2(out, true)
		},
	}
}

// completing is how long a shell waits for names.
const completing = 2 * time.Second

// names completes what is deployed: functions, and where sources is true sources too.
func names(nats *natsFlags, sources bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completing)
		defer cancel()
		if err := process.FromEnvironment(cmd.Flags()); err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		s, err := nats.connect(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		defer s.close()
		var all []cobra.Completion
		if functions, err := s.registry.ListFunctions(ctx); err == nil {
			all = append(all, unnamed(functions, args)...)
		}
		if deployed, err := s.registry.ListSources(ctx); err == nil && sources {
			all = append(all, unnamed(deployed, args)...)
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

// unnamed are those that are not on the command line yet.
func unnamed[T any](deployed []registry.Named[T], args []string) []cobra.Completion {
	var all []cobra.Completion
	for _, n := range deployed {
		if !slices.Contains(args, n.Name) {
			all = append(all, n.Name)
		}
	}
	return all
}
