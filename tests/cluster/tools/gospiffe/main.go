// gospiffe uses a Workload API socket, or a volume's files, like programs in Go, and prints its observations as JSON lines on
// standard output.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

var commands = map[string]func(ctx context.Context, socket string, names []string) error{
	"watch":       watch,
	"sds":         streamSecrets,
	"bundles":     followBundles,
	"postquantum": servePostQuantum,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: gospiffe watch --socket PATH [AUDIENCE...] | sds --socket PATH [SECRET...] | bundles MAP CERTIFICATE KEY | postquantum CERTIFICATES KEY BUNDLE")
		os.Exit(2)
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	socket := flags.String("socket", "", "the socket's path")
	_ = flags.Parse(os.Args[2:])
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := commands[os.Args[1]](ctx, "unix://"+*socket, flags.Args()); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "gospiffe:", err)
		os.Exit(1)
	}
}

var output sync.Mutex

// say prints an event, which contains no secret.
func say(event string, values map[string]any) {
	output.Lock()
	defer output.Unlock()
	line := map[string]any{"event": event}
	for name, value := range values {
		line[name] = value
	}
	_ = json.NewEncoder(os.Stdout).Encode(line)
}
