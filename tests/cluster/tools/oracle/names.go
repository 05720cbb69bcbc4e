package main

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func spiffeID(text []byte) string {
	id, err := spiffeid.FromString(string(text))
	if err != nil {
		return refused(err)
	}
	return fmt.Sprintf("%s %s", id.TrustDomain(), id.Path())
}

func trustDomain(text []byte) string {
	name, err := spiffeid.TrustDomainFromString(string(text))
	if err != nil {
		return refused(err)
	}
	return name.Name()
}

func duration(text []byte) string {
	duration, err := time.ParseDuration(string(text))
	if err != nil {
		return refused(err)
	}
	return fmt.Sprint(int64(duration))
}

// podTokens reads the attribute as CSI drivers in Go do (storage.k8s.io/v1, TokenRequest).
func podTokens(text []byte) string {
	var tokens map[string]struct {
		Token               string      `json:"token"`
		ExpirationTimestamp metav1.Time `json:"expirationTimestamp"`
	}
	if err := json.Unmarshal(text, &tokens); err != nil {
		return refused(err)
	}
	var all []string
	for audience, token := range tokens {
		if token.Token == "" || token.ExpirationTimestamp.IsZero() {
			return "no token without text or time"
		}
		all = append(all, fmt.Sprintf("%s=%s until %d", audience, token.Token, token.ExpirationTimestamp.Unix()))
	}
	sort.Strings(all)
	return strings.Join(all, ", ")
}
