package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// servePostQuantum accepts connections only with the key exchange X25519MLKEM768, and returns what it reads.
func servePostQuantum(ctx context.Context, _ string, files []string) error {
	if len(files) != 3 {
		return errors.New("name the certificates, the key and the bundle")
	}
	svid, err := x509svid.Load(files[0], files[1])
	if err != nil {
		return err
	}
	trustDomain := svid.ID.TrustDomain()
	bundle, err := x509bundle.Load(trustDomain, files[2])
	if err != nil {
		return err
	}
	config := tlsconfig.MTLSServerConfig(svid, bundle, tlsconfig.AuthorizeMemberOf(trustDomain))
	config.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	say("listening", map[string]any{"address": listener.Addr().String()})
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		answer(connection)
	}
}

func answer(connection net.Conn) {
	defer connection.Close()
	secured := connection.(*tls.Conn)
	if err := secured.Handshake(); err != nil {
		say("refused", map[string]any{"error": err.Error()})
		return
	}
	state := secured.ConnectionState()
	peer, err := spiffeid.FromURI(state.PeerCertificates[0].URIs[0])
	if err == nil {
		say("connected", map[string]any{"exchange": state.CurveID.String(), "peer": peer.String()})
		_, _ = io.Copy(connection, connection)
	}
}
