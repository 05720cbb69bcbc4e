package main

import (
	"context"

	config "github.com/cert-manager/cert-manager/internal/apis/config/webhook"
	"github.com/cert-manager/cert-manager/internal/webhook"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
)

// runWebhook serves /mutate, which stamps requests with their creators, and /validate, which among other things asks whether
// the one who approves a request may approve for its signer.
func runWebhook(ctx context.Context, arguments []string) error {
	flags, kubeconfig := newFlags("webhook")
	port := flags.Int("secure-port", 0, "where admission reviews are answered")
	health := flags.Int("healthz-port", 0, "where /livez is answered")
	certificate := flags.String("tls-cert-file", "", "the certificate of the webhook")
	key := flags.String("tls-private-key-file", "", "its private key")
	_ = flags.Parse(arguments)

	options := config.WebhookConfiguration{
		KubeConfig:           *kubeconfig,
		SecurePort:           int32(*port),
		HealthzPort:          int32(*health),
		MetricsListenAddress: "0",
	}
	options.TLSConfig.Filesystem.CertFile, options.TLSConfig.Filesystem.KeyFile = *certificate, *key
	server, err := webhook.NewCertManagerWebhookServer(logf.Log, options)
	if err != nil {
		return err
	}
	return server.Run(ctx)
}
