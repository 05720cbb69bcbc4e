// csr reports how cert-manager's own decoder reads texts: the oracle for the approver's CSR parser.
//
// Standard input holds texts, each after its length (four bytes, big-endian). Standard output has a line for each:
// "unreadable", or the length and SHA-256 of the DER that is read, the number of URI names, and of those with the scheme spiffe.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cert-manager/cert-manager/pkg/util/pki"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "csr:", err)
		os.Exit(1)
	}
}

func run(input io.Reader, output io.Writer) error {
	texts, verdicts := bufio.NewReader(input), bufio.NewWriter(output)
	for {
		var size uint32
		if err := binary.Read(texts, binary.BigEndian, &size); errors.Is(err, io.EOF) {
			return verdicts.Flush()
		} else if err != nil {
			return err
		}
		text := make([]byte, size)
		if _, err := io.ReadFull(texts, text); err != nil {
			return err
		}
		fmt.Fprintln(verdicts, verdict(text))
		// The caller may wait for this line before it writes more.
		if texts.Buffered() == 0 {
			if err := verdicts.Flush(); err != nil {
				return err
			}
		}
	}
}

func verdict(text []byte) string {
	csr, err := pki.DecodeX509CertificateRequestBytes(text)
	if err != nil {
		return "unreadable"
	}
	spiffe := 0
	for _, uri := range csr.URIs {
		if strings.EqualFold(uri.Scheme, "spiffe") {
			spiffe++
		}
	}
	return fmt.Sprintf("%x %d %d", sha256.Sum256(csr.Raw), len(csr.URIs), spiffe)
}
