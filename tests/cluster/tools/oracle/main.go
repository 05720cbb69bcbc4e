// oracle answers questions about texts and bytes as the libraries do that other programs use: go-spiffe,
// cert-manager, Go's own packages. The tests of svid-csi-core compare its answers with the driver's.
//
// Standard input holds records, each after its length (four bytes, big-endian). The first byte of a record names the
// question, the rest is its input. Standard output has a line for each.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// The letters are those of the tests.
var questions = map[byte]func([]byte) string{
	'a': authority,
	'b': bundleDocument,
	'c': csr,
	'd': duration,
	'i': spiffeID,
	'j': jwt,
	'k': jwtBundle,
	'p': path,
	's': keyStore,
	't': trustDomain,
	'w': podTokens,
	'x': x509SVID,
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func run(input io.Reader, output io.Writer) error {
	records, answers := bufio.NewReader(input), bufio.NewWriter(output)
	for {
		var size uint32
		if err := binary.Read(records, binary.BigEndian, &size); errors.Is(err, io.EOF) {
			return answers.Flush()
		} else if err != nil {
			return err
		}
		record := make([]byte, size)
		if _, err := io.ReadFull(records, record); err != nil {
			return err
		}
		question := questions[record[0]]
		if question == nil {
			return fmt.Errorf("there is no question %q", record[0])
		}
		fmt.Fprintln(answers, strings.NewReplacer("\n", " ", "\r", " ").Replace(question(record[1:])))
		// The caller may wait for this line before it writes more.
		if records.Buffered() == 0 {
			if err := answers.Flush(); err != nil {
				return err
			}
		}
	}
}

// fields takes a record apart: each field follows its length (four bytes, big-endian).
func fields(record []byte) [][]byte {
	var all [][]byte
	for len(record) > 0 {
		size := binary.BigEndian.Uint32(record)
		all = append(all, record[4:4+size])
		record = record[4+size:]
	}
	return all
}

// refused marks the answer of a library that does not accept its input.
func refused(err error) string {
	return "no " + err.Error()
}
