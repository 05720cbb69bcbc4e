package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secret "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"
)

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// streamSecrets requests secrets by name like Envoy, prints their contents and acknowledges each response.
func streamSecrets(ctx context.Context, socket string, names []string) error {
	connection, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	stream, err := secret.NewSecretDiscoveryServiceClient(connection).StreamSecrets(ctx)
	if err != nil {
		return err
	}
	request := &discovery.DiscoveryRequest{
		Node:          &core.Node{Id: "gospiffe"},
		TypeUrl:       secretType,
		ResourceNames: names,
	}
	for {
		if err := stream.Send(request); err != nil {
			return err
		}
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		secrets, err := describeAll(response.Resources)
		if err != nil {
			return err
		}
		say("secrets", map[string]any{"version": response.VersionInfo, "secrets": secrets})
		request = &discovery.DiscoveryRequest{
			TypeUrl:       secretType,
			ResourceNames: names,
			VersionInfo:   response.VersionInfo,
			ResponseNonce: response.Nonce,
		}
	}
}

func describeAll(resources []*anypb.Any) ([]map[string]any, error) {
	described := []map[string]any{}
	for _, resource := range resources {
		held := &tlsv3.Secret{}
		if err := resource.UnmarshalTo(held); err != nil {
			return nil, err
		}
		about, err := describe(held)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", held.Name, err)
		}
		about["name"] = held.Name
		described = append(described, about)
	}
	return described, nil
}

func describe(held *tlsv3.Secret) (map[string]any, error) {
	switch {
	case held.GetTlsCertificate() != nil:
		return describePair(held.GetTlsCertificate())
	case held.GetValidationContext().GetCustomValidatorConfig() != nil:
		config := &tlsv3.SPIFFECertValidatorConfig{}
		if err := held.GetValidationContext().GetCustomValidatorConfig().TypedConfig.UnmarshalTo(config); err != nil {
			return nil, err
		}
		domains := map[string]int{}
		for _, domain := range config.TrustDomains {
			roots := x509.NewCertPool()
			if !roots.AppendCertsFromPEM(domain.TrustBundle.GetInlineBytes()) {
				return nil, fmt.Errorf("no certificate for %s", domain.Name)
			}
			domains[domain.Name] = len(roots.Subjects()) //nolint:staticcheck // not the system's pool
		}
		return map[string]any{"trust_domains": domains}, nil
	default:
		return nil, fmt.Errorf("it is of an unexpected kind")
	}
}

// describePair reads chain and key with the TLS library, which fails if they do not belong together.
func describePair(held *tlsv3.TlsCertificate) (map[string]any, error) {
	pair, err := tls.X509KeyPair(held.CertificateChain.GetInlineBytes(), held.PrivateKey.GetInlineBytes())
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"spiffe_id": pair.Leaf.URIs[0].String(),
		"serial":    fmt.Sprintf("%02x", pair.Leaf.SerialNumber.Bytes()),
	}, nil
}
