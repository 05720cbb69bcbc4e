package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/credentials/tls/certprovider"
	"google.golang.org/grpc/credentials/tls/certprovider/pemfile"
)

// refresh is how often gRPC reads the files; its own default is an hour.
const refresh = 50 * time.Millisecond

// followBundles reads a SPIFFE bundle map, a certificate and a key with gRPC's own reader of `spiffe_trust_bundle_map_file`
// (proposal A87), and says what they hold whenever that changes.
func followBundles(ctx context.Context, _ string, files []string) error {
	if len(files) != 3 {
		return errors.New("name the bundle map, the certificate and the key")
	}
	provider, err := pemfile.NewProvider(pemfile.Options{
		SPIFFEBundleMapFile: files[0],
		CertFile:            files[1],
		KeyFile:             files[2],
		RefreshDuration:     refresh,
	})
	if err != nil {
		return err
	}
	defer provider.Close()
	var last map[string]any
	for {
		material, err := provider.KeyMaterial(ctx)
		if err != nil {
			return err
		}
		if now := describeMaterial(material); !reflect.DeepEqual(now, last) {
			say("bundles", now)
			last = now
		}
		select {
		case <-time.After(refresh):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func describeMaterial(material *certprovider.KeyMaterial) map[string]any {
	authorities, sequences := map[string]int{}, map[string]uint64{}
	for name, bundle := range material.SPIFFEBundleMap {
		authorities[name] = len(bundle.X509Authorities())
		sequences[name], _ = bundle.SequenceNumber()
	}
	described := map[string]any{"authorities": authorities, "sequences": sequences}
	serial, err := verify(material)
	if err != nil {
		described["error"] = err.Error()
	} else {
		described["serial"] = serial
	}
	return described
}

// verify looks for the certificate's trust domain in the map and verifies the chain with its authorities alone.
func verify(material *certprovider.KeyMaterial) (string, error) {
	if len(material.Certs) != 1 {
		return "", fmt.Errorf("there are %d certificates with keys", len(material.Certs))
	}
	var chain []*x509.Certificate
	for _, der := range material.Certs[0].Certificate {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return "", err
		}
		chain = append(chain, certificate)
	}
	id, err := x509svid.IDFromCert(chain[0])
	if err != nil {
		return "", err
	}
	bundle, known := material.SPIFFEBundleMap[id.TrustDomain().Name()]
	if !known {
		return "", fmt.Errorf("no bundle of %s", id.TrustDomain())
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range bundle.X509Authorities() {
		roots.AddCert(root)
	}
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: usages})
	return fmt.Sprintf("%02x", chain[0].SerialNumber.Bytes()), err
}
