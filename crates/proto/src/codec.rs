//! Encodes and decodes messages like tonic's own codec, but reserves only as much memory for a call as its messages
//! need. The library reserves 8 KiB as long as a stream is open, and a node has a stream for every pod. Its `raw_encoder`
//! can reserve less, but then it doubles the buffer until the message fits.
//!
//! Messages of many small fields are refused, because a field of two bytes can take up 50 in memory.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// The header of a message, which the library writes first, in bytes.
const HEADER: usize = 5;

/// The memory reserved to read a message, in bytes; larger messages grow it.
const READ: usize = 1024;

/// The number of fields that a message may have in any case, and the number of bytes for each further one.
const FIELDS: usize = 256;
const BYTES_OF_FIELD: usize = 32;

/// The amount of written data that is passed on at once, in bytes; the library's own.
const YIELD: usize = 32 * 1024;

/// The codec of all services and clients in this crate.
#[derive(Debug)]
pub struct SmallCodec<T, U>(PhantomData<(T, U)>);

/// Writes a message into exactly the memory it needs.
#[derive(Debug)]
pub struct ExactEncoder<T>(PhantomData<T>);

/// Reads messages that have no more fields than their size justifies.
#[derive(Debug)]
pub struct DenseDecoder<U>(ProstDecoder<U>);

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for SmallCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ExactEncoder<T>;
    type Decoder = DenseDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ExactEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        DenseDecoder(ProstCodec::<T, U>::raw_decoder(BufferSettings::new(READ, YIELD)))
    }
}

impl<U: Message + Default> Decoder for DenseDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The library has the whole message in one piece.
        if !is_dense(buffer.chunk()) {
            return Err(Status::out_of_range("the message has too many small fields"));
        }
        self.0.decode(buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// Whether a message has no more fields than its size justifies.
#[must_use]
pub fn is_dense(mut message: &[u8]) -> bool {
    let most = FIELDS + message.len() / BYTES_OF_FIELD;
    for _ in 0..most {
        let skipped = decode_key(&mut message)
            .and_then(|(tag, wire_type)| skip_field(wire_type, tag, &mut message, DecodeContext::default()));
        if skipped.is_err() {
            // Decoding it fails there too, and reports why.
            return true;
        }
    }
    message.is_empty()
}

impl<T: Message> Encoder for ExactEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(HEADER, YIELD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::JwtsvidRequest;

    #[test]
    fn many_small_fields_are_not_dense() {
        let request = |audiences, bytes| {
            let audience = vec!["a".repeat(bytes); audiences];
            JwtsvidRequest { audience, spiffe_id: String::new() }.encode_to_vec()
        };
        for (audiences, bytes, dense) in
            [(0, 0, true), (256, 0, true), (300, 0, false), (10_000, 0, false), (10_000, 40, true)]
        {
            assert_eq!(is_dense(&request(audiences, bytes)), dense, "{audiences} of {bytes} bytes");
        }
        assert!(is_dense(&[0xff; 3]), "decoding reports what is wrong with it");
    }
}
