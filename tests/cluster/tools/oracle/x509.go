package main

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/cert-manager/cert-manager/pkg/util/pki"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"software.sslmate.com/src/go-pkcs12"
)

// csr reports how cert-manager's own decoder reads a text: "no", or the SHA-256 of the DER that is read, the number of
// URI names, and of those with the scheme spiffe.
func csr(text []byte) string {
	csr, err := pki.DecodeX509CertificateRequestBytes(text)
	if err != nil {
		return refused(err)
	}
	spiffe := 0
	for _, uri := range csr.URIs {
		if strings.EqualFold(uri.Scheme, "spiffe") {
			spiffe++
		}
	}
	return fmt.Sprintf("%x %d %d", sha256.Sum256(csr.Raw), len(csr.URIs), spiffe)
}

// chains holds what is verified: the time in seconds since 1970, a key in PKCS#8, the number of certificates in the
// chain, these, and the anchors.
type chains struct {
	at             time.Time
	key            []byte
	chain, anchors [][]byte
}

func readChains(record []byte) chains {
	all := fields(record)
	count := int(binary.BigEndian.Uint32(all[2]))
	at := time.Unix(int64(binary.BigEndian.Uint64(all[0])), 0)
	return chains{at: at, key: all[1], chain: all[3 : 3+count], anchors: all[3+count:]}
}

// path verifies a chain as TLS does, for clients and for servers.
func path(record []byte) string {
	asked := readChains(record)
	leaf, err := x509.ParseCertificate(asked.chain[0])
	if err != nil {
		return refused(err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, der := range asked.anchors {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return refused(err)
		}
		roots.AddCert(root)
	}
	for _, der := range asked.chain[1:] {
		intermediate, err := x509.ParseCertificate(der)
		if err != nil {
			return refused(err)
		}
		intermediates.AddCert(intermediate)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err = leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, CurrentTime: asked.at, KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if err != nil {
			return refused(err)
		}
	}
	return "ok"
}

// x509SVID reads an SVID as a workload does, and verifies it as its peer does.
func x509SVID(record []byte) string {
	asked := readChains(record)
	svid, err := x509svid.ParseRaw(join(asked.chain), asked.key)
	if err != nil {
		return refused(err)
	}
	bundle, err := x509bundle.ParseRaw(svid.ID.TrustDomain(), join(asked.anchors))
	if err != nil {
		return refused(err)
	}
	if len(bundle.X509Authorities()) == 0 {
		return "no empty bundle"
	}
	if _, _, err = x509svid.ParseAndVerify(asked.chain, bundle, x509svid.WithTime(asked.at)); err != nil {
		return refused(err)
	}
	if answer := path(record); answer != "ok" {
		return answer
	}
	return svid.ID.String()
}

func join(all [][]byte) []byte {
	var joined []byte
	for _, one := range all {
		joined = append(joined, one...)
	}
	return joined
}

// keyStore reads a key store, or if the first field is empty a trust store: its password, and its bytes.
func keyStore(record []byte) string {
	all := fields(record)
	digest := sha256.New()
	if string(all[0]) == "trust" {
		anchors, err := pkcs12.DecodeTrustStore(all[2], string(all[1]))
		if err != nil {
			return refused(err)
		}
		for _, anchor := range anchors {
			digest.Write(anchor.Raw)
		}
		return fmt.Sprintf("%x", digest.Sum(nil))
	}
	key, leaf, others, err := pkcs12.DecodeChain(all[2], string(all[1]))
	if err != nil {
		return refused(err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return "no key that signs"
	}
	encoded, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return refused(err)
	}
	digest.Write(encoded)
	digest.Write(leaf.Raw)
	for _, other := range others {
		digest.Write(other.Raw)
	}
	return fmt.Sprintf("%x", digest.Sum(nil))
}
