//! The header that shows that a request does not come from a web page.

use tonic::{Request, Status};

/// It must be there exactly once, and be `true`.
pub(super) fn once<T>(request: &Request<T>, header: &str) -> Result<(), Status> {
    let values: Vec<_> = request.metadata().get_all(header).iter().collect();
    match values[..] {
        [value] if value == "true" => Ok(()),
        _ => Err(Status::invalid_argument("security header missing from request")),
    }
}
