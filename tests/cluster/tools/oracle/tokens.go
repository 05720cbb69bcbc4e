package main

import (
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
)

var exampleOrg = spiffeid.RequireTrustDomainFromString("example.org")

// jwt validates a token for an audience with the keys of example.org, at the present time.
func jwt(record []byte) string {
	all := fields(record)
	bundle, err := jwtbundle.Parse(exampleOrg, all[2])
	if err != nil {
		return refused(err)
	}
	svid, err := jwtsvid.ParseAndValidate(string(all[0]), bundle, []string{string(all[1])})
	if err != nil {
		return refused(err)
	}
	audience, err := json.Marshal(svid.Audience)
	if err != nil {
		return refused(err)
	}
	return fmt.Sprintf("%s %d %s", svid.ID, svid.Expiry.Unix(), audience)
}

// jwtBundle lists the keys in a JWK set with their thumbprints.
func jwtBundle(text []byte) string {
	bundle, err := jwtbundle.Parse(exampleOrg, text)
	if err != nil {
		return refused(err)
	}
	return strings.Join(keys(bundle), " ")
}

func keys(bundle *jwtbundle.Bundle) []string {
	all := []string{}
	for id, key := range bundle.JWTAuthorities() {
		thumbprint, err := (&jose.JSONWebKey{Key: key}).Thumbprint(crypto.SHA256)
		if err != nil {
			thumbprint = []byte(err.Error())
		}
		all = append(all, fmt.Sprintf("%q:%x", id, thumbprint))
	}
	sort.Strings(all)
	return all
}

// bundleDocument lists the contents of a SPIFFE bundle document.
func bundleDocument(text []byte) string {
	bundle, err := spiffebundle.Parse(exampleOrg, text)
	if err != nil {
		return refused(err)
	}
	all := keys(bundle.JWTBundle())
	for _, anchor := range bundle.X509Authorities() {
		all = append(all, fmt.Sprintf("%x", sha256.Sum256(anchor.Raw)))
	}
	if sequence, ok := bundle.SequenceNumber(); ok {
		all = append(all, fmt.Sprintf("sequence %d", sequence))
	}
	if hint, ok := bundle.RefreshHint(); ok {
		all = append(all, fmt.Sprintf("hint %d", int64(hint.Seconds())))
	}
	return strings.Join(all, " ")
}
