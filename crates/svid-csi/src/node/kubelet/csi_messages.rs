//! Conversions between the CSI messages and the driver's types.

use svid_csi_core::error::Class;
use svid_csi_core::findings::storage_health::StorageCondition;
use svid_csi_core::plan::Plan;
use svid_csi_core::pod::TOKENS;
use svid_csi_core::secret::Secret;
use svid_csi_core::volume::{Access, Capability, PKCS12_PASSWORD, PublishRequest};
use svid_csi_proto::csi_v1 as csi;
use svid_csi_proto::csi_v1::node_get_storage_health_response::StorageBackendHealth;
use svid_csi_proto::csi_v1::node_service_capability::rpc::Type as Rpc;
use svid_csi_proto::csi_v1::volume_capability::AccessType;
use svid_csi_proto::csi_v1::volume_capability::access_mode::Mode;
use tonic::Code;

/// The only place that maps classes to gRPC codes (CSI spec, "Error Scheme").
pub(super) fn code(class: Class) -> Code {
    match class {
        Class::Invalid => Code::InvalidArgument,
        Class::Conflict => Code::AlreadyExists,
        Class::Missing => Code::NotFound,
        Class::Denied => Code::PermissionDenied,
        Class::Blocked => Code::FailedPrecondition,
        Class::NotYet => Code::Unavailable,
        Class::Exhausted => Code::ResourceExhausted,
        Class::Internal => Code::Internal,
    }
}

pub(super) fn publish_request(mut wire: csi::NodePublishVolumeRequest) -> PublishRequest {
    let in_context = wire.volume_context.remove(TOKENS);
    let in_secrets = wire.secrets.remove(TOKENS);
    PublishRequest {
        volume_id: wire.volume_id,
        target_path: wire.target_path,
        capability: wire.volume_capability.map(capability),
        read_only: wire.readonly,
        context: wire.volume_context,
        tokens: in_secrets.or(in_context).filter(|tokens| !tokens.is_empty()).map(Secret::new),
        pkcs12_password: wire.secrets.remove(PKCS12_PASSWORD).map(Secret::new),
    }
}

pub(super) fn capability(wire: csi::VolumeCapability) -> Capability {
    let access = match wire.access_type {
        None => Access::Missing,
        Some(AccessType::Block(_)) => Access::Block,
        Some(AccessType::Mount(mount)) => Access::Mount {
            particular: !mount.fs_type.is_empty() || !mount.mount_flags.is_empty(),
            group: mount.volume_mount_group,
        },
    };
    let mode = wire.access_mode.map(|mode| mode.mode);
    Capability { access, has_mode: mode.is_some(), reader_only: mode == Some(Mode::SingleNodeReaderOnly.into()) }
}

pub(super) fn capabilities(plans: impl IntoIterator<Item = Plan>) -> Vec<csi::NodeServiceCapability> {
    let mut rpcs = vec![Rpc::GetStorageHealth];
    for plan in plans {
        match plan {
            Plan::Passthrough | Plan::WorkloadApi(_) => rpcs.extend([Rpc::GetVolumeStats, Rpc::VolumeCondition]),
            Plan::Files(_) => rpcs.push(Rpc::VolumeMountGroup),
        }
    }
    rpcs.sort_unstable();
    rpcs.dedup();
    let capability = |rpc: Rpc| csi::NodeServiceCapability {
        r#type: Some(csi::node_service_capability::Type::Rpc(csi::node_service_capability::Rpc { r#type: rpc.into() })),
    };
    rpcs.into_iter().map(capability).collect()
}

pub(super) fn backend_health(condition: StorageCondition) -> StorageBackendHealth {
    let status = match condition.is_unreachable {
        true => csi::StorageHealthErrorType::StorageUnreachable,
        false => csi::StorageHealthErrorType::StorageDegraded,
    };
    StorageBackendHealth { status: status.into(), reason: condition.reason, message: condition.message }
}
