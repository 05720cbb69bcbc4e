//! Encodes and decodes messages like tonic's own codec, but reserves only as much memory for a call as its messages
//! need. The library reserves 8 KiB as long as a stream is open, and a node has a stream for every pod. Its `raw_encoder`
//! can reserve less, but then it doubles the buffer until the message fits.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstCodec;

/// The header of a message, which the library writes first, in bytes.
const HEADER: usize = 5;

/// The memory reserved to read a message, in bytes; larger messages grow it.
const READ: usize = 1024;

/// The amount of written data that is passed on at once, in bytes; the library's own.
const YIELD: usize = 32 * 1024;

/// The codec of all services and clients in this crate.
#[derive(Debug)]
pub struct SmallCodec<T, U>(PhantomData<(T, U)>);

/// Writes a message into exactly the memory it needs.
#[derive(Debug)]
pub struct ExactEncoder<T>(PhantomData<T>);

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for SmallCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ExactEncoder<T>;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ExactEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(READ, YIELD))
    }
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
