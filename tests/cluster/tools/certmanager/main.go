// certmanager runs cert-manager's own controllers, or its own admission webhook, against the test cluster.
//
// The published module of cert-manager has all their packages, but neither of the two main packages; the path of this
// module lets it import the internal one of the webhook.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	logf "github.com/cert-manager/cert-manager/pkg/logs"
	"k8s.io/klog/v2"
)

var commands = map[string]func(ctx context.Context, arguments []string) error{
	"controller": runControllers,
	"webhook":    runWebhook,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: certmanager controller|webhook [flags]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := commands[os.Args[1]](logf.NewContext(ctx, logf.Log), os.Args[2:])
	klog.Flush()
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "certmanager:", err)
		os.Exit(1)
	}
}

// newFlags creates a separate set for a command, because the global one already has a -kubeconfig.
func newFlags(command string) (*flag.FlagSet, *string) {
	flags := flag.NewFlagSet(command, flag.ExitOnError)
	return flags, flags.String("kubeconfig", "", "who to be at the API server")
}
