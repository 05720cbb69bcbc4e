package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// authority compares the frames that a client sent with those that were passed on. "ok" and their number means: the same
// frames with the same headers but the value of :authority, and after each a dynamic table that begins with all the entries
// of the client's. "no" means that the client's own frames cannot be read.
func authority(record []byte) string {
	all := fields(record)
	sent, passed := newPeer(all[0]), newPeer(all[1])
	for count := 0; ; count++ {
		wanted, err := sent.next()
		if errors.Is(err, io.EOF) {
			return fmt.Sprintf("ok %d", count)
		}
		if err != nil {
			return refused(err)
		}
		got, err := passed.next()
		if err != nil {
			return fmt.Sprintf("different frame %d: %v", count, err)
		}
		if wanted != got {
			return fmt.Sprintf("different frame %d: %s became %s", count, wanted, got)
		}
		if wanted, got := show(sent.dynamic()), show(passed.dynamic()); !strings.HasPrefix(got, wanted) {
			return fmt.Sprintf("different table after frame %d:%s became%s", count, wanted, got)
		}
	}
}

type peer struct {
	framer *http2.Framer
	table  *hpack.Decoder
	fields []hpack.HeaderField
	// The headers of a request may be in several frames.
	block []byte
}

func newPeer(sent []byte) *peer {
	peer := &peer{framer: http2.NewFramer(io.Discard, bytes.NewReader(sent))}
	peer.table = hpack.NewDecoder(4096, func(field hpack.HeaderField) { peer.fields = append(peer.fields, field) })
	return peer
}

// next describes the next frame.
func (p *peer) next() (string, error) {
	frame, err := p.framer.ReadFrame()
	if err != nil {
		return "", err
	}
	ended := false
	switch frame := frame.(type) {
	case *http2.HeadersFrame:
		p.block, ended = append([]byte(nil), frame.HeaderBlockFragment()...), frame.HeadersEnded()
	case *http2.ContinuationFrame:
		p.block, ended = append(p.block, frame.HeaderBlockFragment()...), frame.HeadersEnded()
	default:
		header := frame.Header()
		return fmt.Sprintf("%v of %d bytes", header.Type, header.Length), nil
	}
	header := frame.Header()
	described := fmt.Sprintf("%v %x", header.Type, header.Flags)
	if !ended {
		return described, nil
	}
	p.fields = nil
	if _, err := p.table.Write(p.block); err != nil {
		return "", err
	}
	if err := p.table.Close(); err != nil {
		return "", err
	}
	return described + show(p.fields), nil
}

// dynamic looks all entries of the table up, the newest first.
func (p *peer) dynamic() []hpack.HeaderField {
	const static = 61
	p.fields = nil
	for index := byte(static + 1); index < 0x7f; index++ {
		if _, err := p.table.Write([]byte{0x80 | index}); err != nil {
			break
		}
		if err := p.table.Close(); err != nil {
			break
		}
	}
	return p.fields
}

func show(fields []hpack.HeaderField) string {
	text := ""
	for _, field := range fields {
		if field.Name == ":authority" {
			field.Value = ""
		}
		text += fmt.Sprintf(" %q=%q", field.Name, field.Value)
	}
	return text
}
