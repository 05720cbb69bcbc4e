//! The CSI services. A call leads directly to [`Node`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::findings::facts::{AgentSeen, DataSeen, DriverFacts};
use svid_csi_core::findings::{leading_to, storage_health};
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_core::target::TargetPath;
use svid_csi_core::volume::{PublishRequest, RequestMistakes, Rules, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_proto::csi_v1 as csi;
use tonic::{Code, Request, Response, Status};
use tracing::{Instrument, debug, warn};

use super::config::{DriverName, KubeletConfig};
use super::csi_messages::{backend_health, capabilities, code, publish_request};
use super::{patience, spans};
use crate::delivery::socket_dir;
use crate::host::clock;
use crate::host::mount::{self, MountError};
use crate::node::volume::Node;
use crate::node::volume::error::VolumeError;
use crate::node::volume::facts::facts;
use crate::node::volume::publish::{Brought, Publication};
use crate::tasks::blocking;
use crate::telemetry::metrics::{CallResult, CsiCall, OpenCall};
use crate::telemetry::report;

/// The services of one driver name.
#[derive(Debug, Clone)]
pub(in crate::node) struct CsiService {
    node: Arc<Node>,
    driver: Arc<DriverName>,
    rules: Arc<Rules>,
    node_id: Arc<str>,
    setup: Arc<DriverFacts>,
}

/// The longest message that leads to a finding: events have at most 1,024 bytes, and begin with the kubelet's own words.
const MESSAGE: usize = 832;

type CsiResult<T> = Result<Response<T>, Status>;

/// Why the volume of a call is not found.
enum Unlocated {
    /// There can be none.
    Mistakes(RequestMistakes),
    /// It cannot be determined.
    Unknown(VolumeError),
}

impl From<RequestMistakes> for Unlocated {
    fn from(mistakes: RequestMistakes) -> Self {
        Unlocated::Mistakes(mistakes)
    }
}

impl From<VolumeError> for Unlocated {
    fn from(error: VolumeError) -> Self {
        Unlocated::Unknown(error)
    }
}

impl CsiService {
    pub(in crate::node) fn new(
        node: &Arc<Node>,
        driver: &DriverName,
        config: &KubeletConfig,
        trust_domain: Option<TrustDomain>,
        setup: &Arc<DriverFacts>,
    ) -> Self {
        let rules = Rules {
            default_plan: driver.default_plan,
            allowed_plans: driver.allowed_plans.clone(),
            layout: driver.layout,
            file_names: driver.file_names.clone(),
            trust_domain,
            allow_missing_read_only: config.allow_missing_read_only,
            pods_dir: config.pods_dir(),
        };
        CsiService {
            node: node.clone(),
            driver: Arc::new(driver.clone()),
            rules: Arc::new(rules),
            node_id: config.node_id.as_str().into(),
            setup: setup.clone(),
        }
    }

    /// The rules, with the kubelet's pods folder named as in the request, because a folder may have two names.
    async fn rules_for(&self, target_path: &str) -> Result<Arc<Rules>, VolumeError> {
        let (Some(pods_dir), Ok(target)) = (self.rules.pods_dir.clone(), TargetPath::parse(target_path)) else {
            return Ok(self.rules.clone());
        };
        let Some(named) = target.place().map(|place| place.pods_dir.to_owned()).filter(|named| *named != pods_dir)
        else {
            return Ok(self.rules.clone());
        };
        let look = move || Ok::<_, MountError>(mount::are_one_folder(&named, &pods_dir)?.then_some(named));
        Ok(match blocking(look).await?? {
            Some(named) => Arc::new(Rules { pods_dir: Some(named), ..Rules::clone(&self.rules) }),
            None => self.rules.clone(),
        })
    }

    /// The volume, if it is recorded at that path.
    async fn recorded(
        &self,
        volume_id: &str,
        target_path: &str,
    ) -> Result<Option<(VolumeId, TargetPath)>, VolumeError> {
        let (Ok(id), Ok(target)) = (VolumeId::parse(volume_id), TargetPath::parse(target_path)) else {
            return Ok(None);
        };
        Ok(self.node.recorded_at(&id, &target).await?.map(|target| (id, target)))
    }

    /// The volume of the call: below the pods folder, or recorded at any path.
    async fn locate(&self, volume_id: &str, target_path: &str) -> Result<(VolumeId, TargetPath), Unlocated> {
        match self.recorded(volume_id, target_path).await? {
            Some(recorded) => Ok(recorded),
            None => Ok(self.rules_for(target_path).await?.locate(volume_id, target_path)?),
        }
    }

    /// Checks a request of a publish and executes it.
    async fn publish(
        &self,
        mut request: PublishRequest,
        patience: Duration,
        call: &mut OpenCall,
    ) -> Result<(), VolumeError> {
        if let Some((_, recorded)) = self.recorded(&request.volume_id, &request.target_path).await? {
            request.target_path = recorded.text().to_owned();
        }
        let rules = self.rules_for(&request.target_path).await.map_err(VolumeError::begun)?;
        let parsed = match VolumeSpec::parse(&request, &rules) {
            Ok(spec) if spec.plan().mints() && !request.read_only && !self.node.deliveries.seals() => {
                Err(VolumeError::Unsealed)
            }
            parsed => parsed.map_err(VolumeError::from),
        };
        match parsed {
            Ok(spec) => {
                call.concerns(Some(spec.plan()));
                spans::concerns(Some(spec.plan()), spec.pod.as_ref());
                let brought = Brought { tokens: request.tokens, pkcs12_password: request.pkcs12_password };
                let published = self.node.publish(&self.driver.name, spec.into(), brought, patience).await?;
                if published == Publication::Unchanged {
                    call.changes_nothing();
                    spans::changes_nothing();
                }
                Ok(())
            }
            Err(why) => Err(self.node.refusal(&request.volume_id, &request.target_path, why).await),
        }
    }

    /// The adverse conditions of this driver name, which the kubelet asks for once a minute.
    async fn storage_health(&self) -> csi::NodeGetStorageHealthResponse {
        let driver = facts(&self.node, &self.setup).await.of_name(&self.driver.name);
        let agent = self.agent_seen(&driver).await;
        let room = self.node.deliveries.room.as_ref().and_then(|room| room.state());
        let data =
            room.map(|room| DataSeen { is_tmpfs: true, bytes: room.size, used: room.used, ..DataSeen::default() });
        let conditions = storage_health::conditions(driver, agent, data, clock::now());
        csi::NodeGetStorageHealthResponse { backend_health: conditions.into_iter().map(backend_health).collect() }
    }

    /// The agent's directory, if this driver name has the source `socket`.
    async fn agent_seen(&self, driver: &DriverFacts) -> Option<AgentSeen> {
        let (facts, directory) = (driver.agent.clone()?, self.node.deliveries.socket_dir.as_ref()?);
        let seen = directory.look_soon(move |_| socket_dir::seen(&facts, |path| path.into())).await;
        Some(seen.unwrap_or_else(|_| AgentSeen::Unknown("its file system does not answer".to_owned())))
    }

    fn begin(&self, call: CsiCall) -> OpenCall {
        self.node.reports.metrics.begin(call)
    }

    fn answer<T>(&self, open: OpenCall, volume: &str, result: Result<T, VolumeError>) -> CsiResult<T> {
        let (call, ended) = (open.name(), result.as_ref().map_or_else(VolumeError::result, |_| CallResult::Ok));
        let status = result.map_err(|error| {
            let (code, error, finding) = (code(error.class()), report::chain(&error), error.finding());
            let volume: String = volume.escape_debug().take(128).collect();
            warn!(call, volume, ?code, error, finding = finding.map(|check| check.id), "CSI call failed");
            let most = finding.map_or(error.len(), |_| MESSAGE);
            Status::new(code, leading_to(finding, &error, most))
        });
        open.end(ended, status.as_ref().map_or_else(Status::code, |_| Code::Ok));
        status.map(Response::new)
    }
}

fn unimplemented<T>(call: &str) -> CsiResult<T> {
    Err(Status::unimplemented(format!("{call} is not supported: all volumes are ephemeral")))
}

#[tonic::async_trait]
impl csi::identity_server::Identity for CsiService {
    async fn get_plugin_info(&self, _: Request<csi::GetPluginInfoRequest>) -> CsiResult<csi::GetPluginInfoResponse> {
        Ok(Response::new(csi::GetPluginInfoResponse {
            name: self.driver.name.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: HashMap::new(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<csi::GetPluginCapabilitiesRequest>,
    ) -> CsiResult<csi::GetPluginCapabilitiesResponse> {
        Ok(Response::new(csi::GetPluginCapabilitiesResponse::default()))
    }

    async fn probe(&self, _: Request<csi::ProbeRequest>) -> CsiResult<csi::ProbeResponse> {
        Ok(Response::new(csi::ProbeResponse { ready: Some(true) }))
    }
}

#[tonic::async_trait]
impl csi::node_server::Node for CsiService {
    async fn node_publish_volume(
        &self,
        request: Request<csi::NodePublishVolumeRequest>,
    ) -> CsiResult<csi::NodePublishVolumeResponse> {
        let mut call = self.begin(CsiCall::Publish);
        let patience = patience::of(request.metadata());
        let request = publish_request(request.into_inner());
        let volume = request.volume_id.clone();
        let span = spans::publish(&self.driver.name, &volume);
        let published = self.publish(request, patience, &mut call).instrument(span.clone()).await;
        spans::ended(&span, published.as_ref().err());
        self.answer(call, &volume, published.map(|()| csi::NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<csi::NodeUnpublishVolumeRequest>,
    ) -> CsiResult<csi::NodeUnpublishVolumeResponse> {
        let mut call = self.begin(CsiCall::Unpublish);
        let request = request.into_inner();
        let span = spans::unpublish(&self.driver.name, &request.volume_id);
        let unpublished = async {
            match self.locate(&request.volume_id, &request.target_path).await {
                Ok((id, target)) => {
                    let plan = self.node.plan_of(&id).await;
                    call.concerns(plan);
                    spans::concerns(plan, None);
                    self.node.unpublish(&self.driver.name, id, target).await
                }
                Err(Unlocated::Mistakes(mistakes)) => Err(mistakes.into()),
                Err(Unlocated::Unknown(error)) => Err(error),
            }
        };
        let unpublished = unpublished.instrument(span.clone()).await;
        spans::ended(&span, unpublished.as_ref().err());
        let answer = unpublished.map(|()| csi::NodeUnpublishVolumeResponse {});
        self.answer(call, &request.volume_id, answer)
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<csi::NodeGetVolumeStatsRequest>,
    ) -> CsiResult<csi::NodeGetVolumeStatsResponse> {
        let call = self.begin(CsiCall::VolumeStats);
        let request = request.into_inner();
        let condition = match self.locate(&request.volume_id, &request.volume_path).await {
            Ok((id, target)) => self.node.condition(id, target).await,
            Err(Unlocated::Unknown(error)) => Err(error),
            Err(Unlocated::Mistakes(mistakes)) => Err(match VolumeId::parse(&request.volume_id) {
                // A path that no volume can have is not that of this volume; the CSI specification requires this
                // response.
                Ok(id) if !request.volume_path.is_empty() => VolumeError::Unknown(id),
                _ => mistakes.of_path("volume_path").into(),
            }),
        };
        let answer = condition.map(|condition| {
            debug!(volume = request.volume_id, ?condition, "volume inspected");
            let (abnormal, message) = condition.map_or((false, "mounted".to_owned()), |trouble| (true, trouble));
            let condition = csi::VolumeCondition { abnormal, message };
            csi::NodeGetVolumeStatsResponse { usage: Vec::new(), volume_condition: Some(condition) }
        });
        self.answer(call, &request.volume_id, answer)
    }

    async fn node_get_storage_health(
        &self,
        _: Request<csi::NodeGetStorageHealthRequest>,
    ) -> CsiResult<csi::NodeGetStorageHealthResponse> {
        let call = self.begin(CsiCall::StorageHealth);
        let health = self.storage_health().await;
        self.answer(call, "", Ok(health))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<csi::NodeGetCapabilitiesRequest>,
    ) -> CsiResult<csi::NodeGetCapabilitiesResponse> {
        let capabilities = capabilities(self.driver.allowed_plans.iter().copied());
        Ok(Response::new(csi::NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(&self, _: Request<csi::NodeGetInfoRequest>) -> CsiResult<csi::NodeGetInfoResponse> {
        Ok(Response::new(csi::NodeGetInfoResponse { node_id: self.node_id.to_string(), ..Default::default() }))
    }

    async fn node_stage_volume(
        &self,
        _: Request<csi::NodeStageVolumeRequest>,
    ) -> CsiResult<csi::NodeStageVolumeResponse> {
        unimplemented("NodeStageVolume")
    }

    async fn node_unstage_volume(
        &self,
        _: Request<csi::NodeUnstageVolumeRequest>,
    ) -> CsiResult<csi::NodeUnstageVolumeResponse> {
        unimplemented("NodeUnstageVolume")
    }

    async fn node_expand_volume(
        &self,
        _: Request<csi::NodeExpandVolumeRequest>,
    ) -> CsiResult<csi::NodeExpandVolumeResponse> {
        unimplemented("NodeExpandVolume")
    }
}
