//! The header that every call of the Workload API must have. Without it, a web page could have made a browser send the
//! call (SPIFFE Workload Endpoint, section 5).

use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

/// Its name.
pub(crate) const NAME: &str = "workload.spiffe.io";
const VALUE: &str = "true";

/// Adds the header to a call.
pub(crate) fn asking<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(NAME, MetadataValue::from_static(VALUE));
    request
}

/// Accepts a call that has the header exactly once.
///
/// # Errors
/// INVALID_ARGUMENT, as the standard requires.
pub(crate) fn require(request: Request<()>) -> Result<Request<()>, Status> {
    let values: Vec<_> = request.metadata().get_all(NAME).iter().collect();
    match values[..] {
        [value] if value == VALUE => Ok(request),
        _ => Err(Status::invalid_argument(format!("the metadata `{NAME}: {VALUE}` is missing"))),
    }
}
