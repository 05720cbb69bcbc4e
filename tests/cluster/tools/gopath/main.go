// gopath verifies certificate chains like programs in Go: it reads one JSON object per line from standard input, and
// prints one line for each, which is "ok" or the error.
package main

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

type question struct {
	// The leaf first, in DER.
	Chain  [][]byte `json:"chain"`
	Bundle [][]byte `json:"bundle"`
	// In seconds since 1970.
	At int64 `json:"at"`
}

func (q question) verify() error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, der := range q.Bundle {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		roots.AddCert(root)
	}
	leaf, err := x509.ParseCertificate(q.Chain[0])
	if err != nil {
		return err
	}
	for _, der := range q.Chain[1:] {
		intermediate, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		intermediates.AddCert(intermediate)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err = leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, CurrentTime: time.Unix(q.At, 0), KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<24)
	for input.Scan() {
		var asked question
		if err := json.Unmarshal(input.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, "gopath:", err)
			os.Exit(2)
		}
		answer := "ok"
		if err := asked.verify(); err != nil {
			answer = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Println(answer)
	}
}
