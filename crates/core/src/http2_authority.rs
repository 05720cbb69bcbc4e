//! The rewriting of HTTP/2 requests for clients that write the socket's path as the host: the kubelet, and clients based on
//! gRPC's C core, such as Python's library.

const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
/// The default limit of a client's frame; the library refuses larger ones.
const LARGEST_FRAME: usize = 16_384;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// The index of `:authority` in the static table of HPACK.
const AUTHORITY: usize = 1;
/// The name as a literal with its length (RFC 7541, 5.2): the C core does not use the static table.
const SPELLED_OUT: &[u8] = b"\x0a:authority";
/// A host of one letter. It is not longer than the original, so that our dynamic table keeps every header that the
/// client still refers to.
const HOST: [u8; 2] = [1, b'x'];

/// Follows the frames of a client, and replaces the host (`:authority`) of its requests.
#[derive(Debug)]
pub struct Rewriter {
    /// The number of bytes to pass through unchanged before the next frame.
    pass: usize,
    /// The incomplete beginning of a frame.
    held: Vec<u8>,
    /// Whether the bytes to pass through are the last of the head of a request.
    ends_head: bool,
}

impl Default for Rewriter {
    /// For a new connection.
    fn default() -> Self {
        Self { pass: PREFACE, held: Vec::new(), ends_head: false }
    }
}

impl Rewriter {
    /// Takes the next bytes of the client, and appends those to pass on.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(rest) = self.push_head(bytes, out) {
            bytes = rest;
        }
    }

    /// The same up to the end of the head of a request. Returns the rest, if there is such an end.
    pub fn push_head<'a>(&mut self, mut bytes: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
        while !bytes.is_empty() {
            let (passing, rest) = bytes.split_at(self.pass.min(bytes.len()));
            out.extend_from_slice(passing);
            self.pass -= passing.len();
            if self.pass == 0 && std::mem::take(&mut self.ends_head) {
                return Some(rest);
            }
            let wanted = self.wanted().saturating_sub(self.held.len());
            let (held, rest) = rest.split_at(if self.pass > 0 { 0 } else { wanted.min(rest.len()) });
            self.held.extend_from_slice(held);
            self.release(out);
            bytes = rest;
            if self.pass == 0 && std::mem::take(&mut self.ends_head) {
                return Some(rest);
            }
        }
        None
    }

    /// How much of the frame is needed to decide about it.
    fn wanted(&self) -> usize {
        match self.held.get(..FRAME_HEADER) {
            Some(header) if header[3] == HEADERS => FRAME_HEADER + length(header).min(LARGEST_FRAME),
            _ => FRAME_HEADER,
        }
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        if self.held.len() < self.wanted() || self.held.len() < FRAME_HEADER {
            return;
        }
        let frame = std::mem::take(&mut self.held);
        let (header, payload) = frame.split_at(FRAME_HEADER);
        self.ends_head = matches!(header[3], HEADERS | CONTINUATION) && header[4] & END_HEADERS != 0;
        match rewrite(header, payload) {
            Some(rewritten) => out.extend(rewritten),
            None => {
                out.extend_from_slice(&frame);
                self.pass = length(header) - payload.len();
            }
        }
    }
}

/// The frame with another authority; `None` if there is nothing to rewrite.
fn rewrite(header: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    if header[3] != HEADERS || payload.len() != length(header) {
        return None;
    }
    let (mut start, mut end) = (0, payload.len());
    if header[4] & PADDED != 0 {
        start += 1;
        end = end.checked_sub(usize::from(*payload.first()?))?;
    }
    if header[4] & PRIORITY != 0 {
        start += 5;
    }
    let value = authority_value(&payload[..end], start)?;
    let rewritten = [&payload[..value.start], &HOST, &payload[value.end..]].concat();
    let length = u32::try_from(rewritten.len()).ok()?.to_be_bytes();
    Some([&length[1..], &header[3..], &rewritten].concat())
}

/// The position of the value of `:authority`, including its length (RFC 7541, 6).
fn authority_value(block: &[u8], mut at: usize) -> Option<std::ops::Range<usize>> {
    while let Some(&first) = block.get(at) {
        let (prefix, literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let (name, after) = integer(block, at, prefix)?;
        at = after;
        if literal {
            let mut is_authority = name == AUTHORITY;
            if name == 0 {
                let end = skip_string(block, at)?;
                is_authority = block[at..end] == *SPELLED_OUT;
                at = end;
            }
            let end = skip_string(block, at)?;
            if is_authority {
                return Some(at..end);
            }
            at = end;
        }
    }
    None
}

fn skip_string(block: &[u8], at: usize) -> Option<usize> {
    let (length, after) = integer(block, at, 7)?;
    after.checked_add(length).filter(|end| *end <= block.len())
}

/// An integer and its end (RFC 7541, 5.1); the ones here fit in three bytes.
fn integer(block: &[u8], at: usize, prefix: u32) -> Option<(usize, usize)> {
    let mask = (1_usize << prefix) - 1;
    let first = usize::from(*block.get(at)?) & mask;
    if first < mask {
        return Some((first, at + 1));
    }
    let mut value = first;
    for (index, byte) in block.get(at + 1..)?.iter().take(2).enumerate() {
        value += usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, at + 2 + index));
        }
    }
    None
}

fn length(header: &[u8]) -> usize {
    header[..3].iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// POST, a path, then an authority that is a path, then a header that is not in the table.
    fn request(authority: &[u8]) -> Vec<u8> {
        let value = [&[u8::try_from(authority.len()).unwrap()], authority].concat();
        [&[0x83, 0x44, 2, b'/', b'p', 0x41][..], &value, &[0x40, 1, b'k', 1, b'v']].concat()
    }

    /// The same, with all names as literals.
    fn spelled_out(authority: &[u8]) -> Vec<u8> {
        let value = [&[u8::try_from(authority.len()).unwrap()], authority].concat();
        [&b"\x40\x05:path\x02/p\x40\x0a:authority"[..], &value, &[0x83, 0x86, 0x00, 1, b'k', 1, b'v']].concat()
    }

    /// Passes the bytes through the rewriter, `step` at a time.
    fn rewritten(bytes: &[u8], step: usize) -> Vec<u8> {
        let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
        bytes.chunks(step).for_each(|chunk| rewriter.push(chunk, &mut out));
        assert!(rewriter.held.is_empty(), "the rewriter keeps something to itself");
        out
    }

    #[test]
    fn only_the_authority_is_replaced() {
        let settings = frame(4, 0, &[0, 3, 0, 0, 0, 100]);
        let data = frame(0, 1, &[0; 300]);
        let preface = [b'P'; PREFACE];
        for (flags, before, request) in [
            (0x04, &[][..], request as fn(&[u8]) -> Vec<u8>),
            (0x24, &[0, 0, 0, 0, 15], request),
            (0x0c, &[0], request),
            (0x04, &[], spelled_out),
        ] {
            let sent = frame(HEADERS, flags, &[before, &request(b"%2Fvar%2Flib%2Fr.sock")].concat());
            let wanted = frame(HEADERS, flags, &[before, &request(b"x")].concat());
            let whole = [&preface[..], &settings, &sent, &data, &sent].concat();
            for step in [1, 7, 4096] {
                let expected = [&preface[..], &settings, &wanted, &data, &wanted].concat();
                assert_eq!(rewritten(&whole, step), expected, "in steps of {step}");
            }
        }
    }

    #[test]
    fn each_head_ends_a_push() {
        let [whole, first, last] = [(HEADERS, END_HEADERS), (HEADERS, 0), (CONTINUATION, END_HEADERS)]
            .map(|(kind, flags)| frame(kind, flags, &request(b"x")));
        let sent = [&[b'P'; PREFACE][..], &whole, &first, &last, &frame(0, END_HEADERS, &[0; 9]), &whole].concat();
        let (mut rewriter, mut out, mut ends) = (Rewriter::default(), Vec::new(), Vec::new());
        let mut rest = Some(&sent[..]);
        while let Some(bytes) = rest {
            rest = rewriter.push_head(bytes, &mut out);
            ends.push(out.len());
        }
        let first_end = PREFACE + whole.len();
        assert_eq!(ends, [first_end, first_end + first.len() + last.len(), sent.len(), sent.len()]);
    }

    #[test]
    fn padding_that_looks_like_an_authority_passes_through() {
        let padding = b"\x41\x03abc";
        let payload = [&[5, 0x83, 0x86][..], padding].concat();
        let whole = [&[b'P'; PREFACE][..], &frame(HEADERS, 0x0c, &payload)].concat();
        assert_eq!(rewritten(&whole, 7), whole);
    }

    #[test]
    fn frames_without_an_authority_and_nonsense_pass_through() {
        let preface = [b'P'; PREFACE];
        let blocks: [&[u8]; 4] = [&[0x83, 0x86], &[0x41, 200, b'a'], &[0x7f, 0xff, 0xff, 0xff], &[]];
        for block in blocks {
            let whole = [&preface[..], &frame(HEADERS, 4, block)].concat();
            assert_eq!(rewritten(&whole, 5), whole);
        }
        let large = [&preface[..], &frame(HEADERS, 4, &vec![0; LARGEST_FRAME + 10]), &frame(6, 0, &[1; 8])].concat();
        assert_eq!(rewritten(&large, 1000), large);
    }
}
