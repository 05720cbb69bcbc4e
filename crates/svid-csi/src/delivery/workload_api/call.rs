//! One call of a pod, from its head until its response is complete.

use std::mem::take;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use prost::Message;
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status};

use super::caller::Caller;
use super::share::{Full, Taken};
use crate::telemetry::metrics::Metrics;

/// The number of bytes reserved for a request at a time.
const STEP: usize = 4 * 1024;
/// How many times a request is in memory: as received, as a message, and its parts with what they need beside their content.
const COPIES: usize = 3;
/// How long a response waits for room.
const WAITS: Duration = Duration::from_secs(1);

/// A call, which counts against its pod's limit until it is dropped. It is an extension of the HTTP request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) caller: Arc<Caller>,
    _place: Taken,
    received: Mutex<Received>,
    /// Reserved for the messages that HTTP/2 does not have yet.
    answer: Mutex<Vec<Taken>>,
}

/// The received part of a request that is needed.
#[derive(Debug, Default)]
struct Received {
    room: Vec<Taken>,
    /// Its reservation, in bytes.
    unused: usize,
}

impl Call {
    /// Reserves a call of the pod.
    pub(super) fn begin(caller: &Arc<Caller>) -> Result<Arc<Self>, Full> {
        let place = caller.endpoint.shares.calls.try_take(1);
        let place = place.inspect_err(|full| caller.refused(&caller.endpoint.shares.calls, *full))?;
        caller.asks();
        let (received, answer) = (Mutex::default(), Mutex::default());
        Ok(Arc::new(Self { caller: caller.clone(), _place: place, received, answer }))
    }

    /// The call of a request.
    ///
    /// # Errors
    /// If it did not arrive on a volume's socket, which cannot happen.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Arc<Self>, Status> {
        let call = request.extensions().get::<Arc<Self>>().cloned();
        call.ok_or_else(|| Status::internal("cannot determine the socket of this call"))
    }

    /// Reserves space for a response of one message, until it is sent.
    pub(super) async fn answers_with(&self, message: &impl Message) -> Result<(), Status> {
        let (share, bytes) = (&self.caller.endpoint.shares.bytes, message.encoded_len());
        let room = match timeout(WAITS, share.take(bytes)).await {
            Ok(room) => room,
            Err(_) => self.room(bytes)?,
        };
        self.holds(room);
        Ok(())
    }

    /// Keeps the reservation of the next message until the message is sent.
    pub(super) fn holds(&self, room: Taken) {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).push(room);
    }

    /// The next part of the response: all messages with a reservation, because each part has everything encoded before it.
    fn sends(&self, data: Bytes) -> Bytes {
        let room = take(&mut *self.answer.lock().unwrap_or_else(PoisonError::into_inner));
        self.caller.sends(data, room)
    }

    /// Marks everything received so far as messages that are not needed any more.
    pub(super) fn has_read(&self) {
        *self.received.lock().unwrap_or_else(PoisonError::into_inner) = Received::default();
    }

    /// The same, except for that many bytes.
    pub(super) fn keeps(&self, bytes: usize) -> Result<(), Status> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        *received = Received::default();
        received.room.push(self.room(bytes)?);
        Ok(())
    }

    fn receives(&self, bytes: usize) -> Result<(), Status> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = COPIES * bytes;
        if let Some(missing) = bytes.checked_sub(received.unused).filter(|missing| *missing > 0) {
            let more = missing.max(STEP);
            received.room.push(self.room(more)?);
            received.unused += more;
        }
        received.unused -= bytes;
        Ok(())
    }

    fn room(&self, bytes: usize) -> Result<Taken, Status> {
        let share = &self.caller.endpoint.shares.bytes;
        let taken = share.try_take(bytes);
        Ok(taken.inspect_err(|full| self.caller.refused(share, *full))?)
    }
}

/// The body of a request, of which no more is read than was reserved.
pub(super) struct RequestBody {
    pub(super) body: Incoming,
    pub(super) call: Arc<Call>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let frame = frame.map(|frame| frame.map_err(|error| Status::from_error(error.into())));
        Poll::Ready(frame.map(|frame| {
            let frame = frame?;
            self.call.receives(frame.data_ref().map_or(0, Bytes::len))?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response, with its call.
pub(super) struct ResponseBody {
    pub(super) body: tonic::body::Body,
    pub(super) call: Option<Arc<Call>>,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(call) = &self.call else { return Poll::Ready(frame) };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|data| call.sends(data)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Counts the response to a call, and returns it.
pub(super) fn answered<T>(
    metrics: &Metrics,
    method: &'static str,
    answer: Result<T, Status>,
) -> Result<Response<T>, Status> {
    metrics.workload_api_called(method, answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
    answer.map(Response::new)
}
