//! The rewriting of the host in HTTP/2 requests: in whatever pieces the bytes arrive, the same bytes are passed on, no
//! frame gets longer by more than a byte, and at most one frame is held.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svid_csi_core::http2_authority::Rewriter;

const PREFACE: usize = 24;
/// The header and the payload of the largest frame.
const LARGEST_FRAME: usize = 9 + 16_384;

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = (1 + usize::from(input.0), input.1);
    let mut sent = vec![b'P'; PREFACE];
    sent.extend_from_slice(bytes);
    let (mut rewriter, mut passed) = (Rewriter::default(), Vec::new());
    rewriter.push(&sent, &mut passed);
    let (mut other, mut in_pieces) = (Rewriter::default(), Vec::new());
    for piece in sent.chunks(step) {
        other.push(piece, &mut in_pieces);
    }
    assert_eq!(passed, in_pieces, "in pieces of {step}");

    let mut rest = &sent[PREFACE..];
    let mut passed = &passed[PREFACE.min(passed.len())..];
    while let Some((was, after)) = frame(rest) {
        let (is, after_it) = frame(passed).expect("every whole frame is passed on");
        assert_eq!(was[3..9], is[3..9], "type, flags and stream");
        assert!(was == is || (was[3] == 1 && is.len() <= was.len() + 1), "{was:02x?} became {is:02x?}");
        (rest, passed) = (after, after_it);
    }
    assert!(rest.starts_with(passed) && rest.len() - passed.len() <= LARGEST_FRAME, "of the last frame");
});

/// The first frame, if all of it has arrived.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = bytes.get(..3)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    bytes.split_at_checked(9 + length)
}
