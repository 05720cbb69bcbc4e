//! The agent's side: what it says about each pod, and how its streams misbehave.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures::Stream;
use prost::Message;
use svid_csi_proto::broker::api_server::{Api, ApiServer};
use svid_csi_proto::broker::{
    FetchJwtsvidRequest, KubernetesObjectReference, SubscribeToJwtBundlesRequest, SubscribeToX509BundlesRequest,
    SubscribeToX509svidRequest,
};
use svid_csi_proto::workload::{JwtBundlesResponse, JwtsvidResponse, X509BundlesResponse};
use tokio::io::DuplexStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response};

use super::*;

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Debug, Clone, Default)]
pub(super) struct Agent {
    pods: Arc<Mutex<BTreeMap<String, watch::Sender<Said>>>>,
    /// Ended by the agent's next [`Agent::hang_up`].
    connections: Arc<Mutex<CancellationToken>>,
}

/// About one pod.
#[derive(Debug, Clone, Default)]
struct Said {
    /// The number of the identity; `None` if there is none.
    given: Option<u64>,
    counter: u64,
    /// Changes end all streams, or send the last message again.
    ended: u64,
    repeated: u64,
    trouble: Trouble,
    /// Sent in place of a message with only a number.
    answer: Option<X509svidResponse>,
}

#[derive(Debug, Clone, Default)]
enum Trouble {
    #[default]
    None,
    /// Messages are late.
    Slow(Duration),
    /// Nothing is sent.
    Silent,
    /// Streams that are opened meanwhile never send anything.
    Mute,
    /// Calls fail.
    Fails(Code),
}

impl Agent {
    /// The other end of a new connection.
    pub(super) fn accept(&self, tasks: &Tasks) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (api, hung_up) = (ApiServer::new(self.clone()), self.connections.lock().unwrap().clone());
        tasks.detached(async move {
            let incoming = tokio_stream::once(Ok::<_, std::io::Error>(theirs));
            let never_ends = tokio_stream::StreamExt::chain(incoming, tokio_stream::pending());
            let serve = Server::builder().add_service(api).serve_with_incoming(never_ends);
            hung_up.run_until_cancelled(serve).await;
        });
        ours
    }

    /// Ends all connections.
    pub(super) fn hang_up(&self) {
        std::mem::take(&mut *self.connections.lock().unwrap()).cancel();
    }

    pub(super) fn give(&self, uid: &str) {
        self.of(uid).send_modify(|said| {
            said.counter += 1;
            said.given = Some(said.counter);
        });
    }

    /// Sends that message about a pod from now on.
    pub(super) fn answer(&self, uid: &str, answer: X509svidResponse) {
        self.of(uid).send_modify(|said| said.answer = Some(answer));
    }

    pub(super) fn withdraw(&self, uid: &str) {
        self.of(uid).send_modify(|said| said.given = None);
    }

    pub(super) fn end_streams(&self, uid: &str) {
        self.of(uid).send_modify(|said| said.ended += 1);
    }

    pub(super) fn repeat(&self, uid: &str) {
        self.of(uid).send_modify(|said| said.repeated += 1);
    }

    /// Messages about a pod are that late from now on.
    pub(super) fn delay(&self, uid: &str, delay: Duration) {
        self.of(uid).send_modify(|said| said.trouble = Trouble::Slow(delay));
    }

    pub(super) fn disturb(&self, uid: &str, random: &mut Random) {
        let trouble = match random.below(5) {
            0 => Trouble::Slow(random.millis(20_000)),
            1 => Trouble::Silent,
            2 => Trouble::Mute,
            3 => Trouble::Fails(if random.once_in(2) { Code::Unavailable } else { Code::NotFound }),
            _ => Trouble::Fails(Code::Internal),
        };
        self.of(uid).send_modify(|said| said.trouble = trouble);
    }

    /// Everything is sent at once from now on.
    pub(super) fn heal(&self) {
        for said in self.pods.lock().unwrap().values() {
            said.send_modify(|said| said.trouble = Trouble::None);
        }
    }

    /// What the agent says about a pod.
    pub(super) fn said(&self, uid: &str) -> String {
        let given = self.of(uid).borrow().given;
        given.map_or("nothing".to_owned(), |number| id(uid, number))
    }

    fn of(&self, uid: &str) -> watch::Sender<Said> {
        self.pods.lock().unwrap().entry(uid.to_owned()).or_default().clone()
    }
}

fn id(uid: &str, number: u64) -> String {
    format!("spiffe://example.org/{uid}/{number}")
}

fn message(uid: &str, given: Option<u64>) -> X509svidResponse {
    let svid = |number| X509svid { spiffe_id: id(uid, number), ..X509svid::default() };
    X509svidResponse { svids: given.map(svid).into_iter().collect(), ..X509svidResponse::default() }
}

/// The messages about a pod, each change once, until the streams are ended.
fn messages(uid: String, mut said: watch::Receiver<Said>) -> Messages<X509svidResponse> {
    if matches!(said.borrow().trouble, Trouble::Mute) {
        return Box::pin(futures::stream::pending());
    }
    let ended = said.borrow().ended;
    let state = (uid, None::<(Option<u64>, u64)>);
    said.mark_changed();
    Box::pin(futures::stream::unfold((said, state), move |(mut said, (uid, sent))| async move {
        loop {
            let now = said.borrow_and_update().clone();
            if now.ended != ended {
                return None;
            }
            match now.trouble {
                Trouble::Slow(delay) => sleep(delay).await,
                Trouble::Silent => {
                    said.changed().await.ok()?;
                    continue;
                }
                Trouble::None | Trouble::Mute | Trouble::Fails(_) => {}
            }
            let current = (now.given, now.repeated);
            if sent != Some(current) {
                let message = now.answer.unwrap_or_else(|| message(&uid, now.given));
                return Some((Ok(message), (said, (uid, Some(current)))));
            }
            said.changed().await.ok()?;
        }
    }))
}

#[tonic::async_trait]
impl Api for Agent {
    type SubscribeToX509SVIDStream = Messages<X509svidResponse>;
    type SubscribeToX509BundlesStream = Messages<X509BundlesResponse>;
    type SubscribeToJWTBundlesStream = Messages<JwtBundlesResponse>;

    async fn subscribe_to_x509svid(
        &self,
        request: Request<SubscribeToX509svidRequest>,
    ) -> Result<Response<Self::SubscribeToX509SVIDStream>, Status> {
        let any = request.into_inner().reference.and_then(|reference| reference.reference).unwrap();
        let uid = KubernetesObjectReference::decode(&*any.value).unwrap().uid;
        let said = self.of(&uid).subscribe();
        if let Trouble::Fails(code) = said.borrow().trouble {
            return Err(Status::new(code, "the test says so"));
        }
        Ok(Response::new(messages(uid, said)))
    }

    async fn subscribe_to_x509_bundles(
        &self,
        _: Request<SubscribeToX509BundlesRequest>,
    ) -> Result<Response<Self::SubscribeToX509BundlesStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn fetch_jwtsvid(&self, _: Request<FetchJwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn subscribe_to_jwt_bundles(
        &self,
        _: Request<SubscribeToJwtBundlesRequest>,
    ) -> Result<Response<Self::SubscribeToJWTBundlesStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}
