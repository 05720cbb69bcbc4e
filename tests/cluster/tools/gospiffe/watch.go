package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"golang.org/x/sync/errgroup"
)

// watch follows the X.509-SVID with an X509Source and, if audiences are given, tokens with a JWTSource. Both reconnect
// by themselves.
func watch(ctx context.Context, socket string, audiences []string) error {
	options := workloadapi.WithClientOptions(workloadapi.WithAddr(socket), workloadapi.WithLogger(loggedProblems{}))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return followX509(ctx, options) })
	if len(audiences) > 0 {
		group.Go(func() error { return followJWT(ctx, options, socket, audiences) })
	}
	return group.Wait()
}

func followX509(ctx context.Context, options workloadapi.SourceOption) error {
	source, err := workloadapi.NewX509Source(ctx, options)
	if err != nil {
		return fmt.Errorf("no X509Source: %w", err)
	}
	defer source.Close()
	for {
		if err := sayX509(source); err != nil {
			return err
		}
		select {
		case <-source.Updated():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func sayX509(source *workloadapi.X509Source) error {
	svid, err := source.GetX509SVID()
	if err != nil {
		return err
	}
	bundle, err := source.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		return err
	}
	leaf := svid.Certificates[0]
	say("x509", map[string]any{
		"spiffe_id": svid.ID.String(),
		"serial":    fmt.Sprintf("%02x", leaf.SerialNumber.Bytes()),
		"not_after": leaf.NotAfter.UTC().Format(time.RFC3339),
		"bundle":    len(bundle.X509Authorities()),
	})
	return nil
}

func followJWT(ctx context.Context, options workloadapi.SourceOption, socket string, audiences []string) error {
	source, err := workloadapi.NewJWTSource(ctx, options)
	if err != nil {
		return fmt.Errorf("no JWTSource: %w", err)
	}
	defer source.Close()
	for {
		for _, audience := range audiences {
			if err := sayJWT(ctx, source, socket, audience); err != nil {
				say("error", map[string]any{"audience": audience, "error": err.Error()})
			}
		}
		select {
		case <-source.Updated():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sayJWT fetches a token and has it checked twice: by the library with the bundles it was sent, and by the server.
func sayJWT(ctx context.Context, source *workloadapi.JWTSource, socket, audience string) error {
	fetched, err := source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	if err != nil {
		return fmt.Errorf("FetchJWTSVID: %w", err)
	}
	checked, err := jwtsvid.ParseAndValidate(fetched.Marshal(), source, []string{audience})
	if err != nil {
		return fmt.Errorf("the library refuses the token: %w", err)
	}
	validated, err := workloadapi.ValidateJWTSVID(ctx, fetched.Marshal(), audience, workloadapi.WithAddr(socket))
	if err != nil {
		return fmt.Errorf("ValidateJWTSVID: %w", err)
	}
	if validated.ID != checked.ID {
		return fmt.Errorf("the server says that the token is %s's, the library that it is %s's", validated.ID, checked.ID)
	}
	say("jwt", map[string]any{
		"spiffe_id": checked.ID.String(),
		"audience":  checked.Audience,
		"expires":   checked.Expiry.UTC().Format(time.RFC3339),
	})
	return nil
}

// loggedProblems prints the log of the library, which reports there that it reconnects.
type loggedProblems struct{}

func (loggedProblems) Debugf(string, ...any) {}
func (loggedProblems) Infof(string, ...any)  {}
func (loggedProblems) Warnf(format string, values ...any) {
	say("log", map[string]any{"message": fmt.Sprintf(format, values...)})
}
func (loggedProblems) Errorf(format string, values ...any) {
	say("log", map[string]any{"message": fmt.Sprintf(format, values...)})
}
