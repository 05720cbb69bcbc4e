//! The attributes a pod author may set on a volume: `svid-csi/*`, and the predecessor's fs-group.

mod extras;
mod layout;
pub(crate) mod secret_names;
pub(crate) mod table;

use std::collections::HashMap;
use std::str::FromStr;

use self::secret_names::SecretNames;
use self::table::{ATTRIBUTES, Attribute, OWN_PREFIX, PREDECESSOR_FS_GROUP};
use crate::files::FileName;
use crate::plan::{Delivery, Issuer, Plan, PlanError, Source};
use crate::publish_request::{RequestMistakes, Rules};

/// The key of the PKCS#12 files' password in the Secret of `nodePublishSecretRef`.
pub const PKCS12_PASSWORD: &str = "pkcs12-password";

const PASSWORD_IN_ATTRIBUTE: &str = "volume attribute svid-csi/pkcs12-password would be visible to everyone who may read pods: put \
     the password under the key `pkcs12-password` of a Secret, and name the Secret in pod.spec.volumes[].csi.nodePublishSecretRef";

/// Where clients look for the Workload API: common examples, SPIRE's own, Istio, and older charts of SPIRE.
const USUAL_SOCKETS: [&str; 4] = ["agent.sock", "spire-agent.sock", "socket", "api.sock"];

/// The maximum number of names of one socket.
const MOST_SOCKET_NAMES: usize = 8;

/// A socket's whole path has at most 107 bytes (unix(7)), the pod's mountPath included.
const LONGEST_SOCKET_NAME: usize = 64;

/// The longest name of a secret for Envoy, in bytes.
const LONGEST_SECRET_NAME: usize = 253;

/// The longest hint, in bytes.
const LONGEST_HINT: usize = 1024;

/// The attributes of one volume, by their names without the prefix.
pub(crate) struct Attributes<'a> {
    own: HashMap<&'a str, &'a str>,
    predecessor_fs_group: Option<&'a str>,
}

/// Picks our attributes out of a volume context. Other keys are ignored; unknown attributes with our prefix are mistakes.
pub(crate) fn read<'a>(context: &'a HashMap<String, String>, mistakes: &mut RequestMistakes) -> Attributes<'a> {
    let mut own = HashMap::new();
    for (key, value) in context {
        let Some(name) = key.strip_prefix(OWN_PREFIX) else { continue };
        if ATTRIBUTES.iter().any(|known| known.name == name) {
            own.insert(name, value.as_str());
        } else if name == PKCS12_PASSWORD {
            mistakes.add(PASSWORD_IN_ATTRIBUTE);
        } else {
            let name: String = name.escape_debug().take(64).collect();
            let known = ATTRIBUTES.map(|known| known.name).join(", ");
            mistakes.add(format!(
                "volume attribute {OWN_PREFIX}{name} does not exist; the attributes after {OWN_PREFIX} are: {known}"
            ));
        }
    }
    Attributes { own, predecessor_fs_group: context.get(PREDECESSOR_FS_GROUP).map(String::as_str) }
}

impl Attributes<'_> {
    /// The plan the volume asks for, or the default.
    pub(crate) fn plan(&self, rules: &Rules, mistakes: &mut RequestMistakes) -> Option<Plan> {
        let source = self.parsed::<Source>(table::SOURCE);
        let delivery = self.parsed::<Delivery>(table::DELIVERY);
        if source.is_none() && delivery.is_none() {
            return Some(rules.default_plan);
        }
        let source = mistakes.take(source.unwrap_or(Ok(rules.default_plan.source())))?;
        let delivery = mistakes.take(delivery.unwrap_or(Ok(source.usual_delivery())))?;
        let plan = mistakes.take(Plan::new(source, delivery))?;
        if !rules.allowed_plans.contains(&plan) {
            mistakes.add(format!(
                "volume attributes ask for {plan}, which this driver does not allow: start it with --allow-plan {plan}"
            ));
            return None;
        }
        Some(plan)
    }

    fn parsed<T: FromStr<Err = PlanError>>(&self, attribute: Attribute) -> Option<Result<T, String>> {
        let parsed = self.get(attribute)?.parse();
        Some(parsed.map_err(|error: PlanError| format!("volume attribute {OWN_PREFIX}{}: {error}", attribute.name)))
    }

    fn file_name(&self, attribute: Attribute, mistakes: &mut RequestMistakes) -> Option<FileName> {
        let name = FileName::parse(self.get(attribute)?);
        mistakes.take(name.map_err(|error| format!("volume attribute {OWN_PREFIX}{}: {error}", attribute.name)))
    }

    /// The value in the volume.
    fn get(&self, attribute: Attribute) -> Option<&str> {
        self.own.get(attribute.name).copied()
    }

    /// The group of the files. The volume's attribute wins over the pod's fsGroup (`mount_group`, empty when unset).
    pub(crate) fn fs_group(&self, mount_group: &str, mistakes: &mut RequestMistakes) -> Option<u32> {
        let own = self.get(table::FS_GROUP).map(|value| (format!("volume attribute {OWN_PREFIX}fs-group"), value));
        let predecessor =
            self.predecessor_fs_group.map(|value| (format!("volume attribute {PREDECESSOR_FS_GROUP}"), value));
        let pod = (!mount_group.is_empty()).then(|| ("volume_mount_group".to_owned(), mount_group));
        let (field, value) = own.or(predecessor).or(pod)?;
        match value.parse::<u32>() {
            Ok(group @ 0..=4_294_967_294) => Some(group),
            _ => {
                mistakes.add(format!("{field} must be a group id from 0 to 4294967294"));
                None
            }
        }
    }

    /// Selects one of several SVIDs.
    pub(crate) fn hint(&self, issuer: Issuer, mistakes: &mut RequestMistakes) -> Option<String> {
        let hint = self.get(table::HINT)?;
        if issuer.names_identity() {
            let source = issuer.source();
            mistakes.add(format!(
                "volume attribute {OWN_PREFIX}hint selects one of several SVIDs, but source `{source}` issues only one: leave it out"
            ));
        }
        if hint.is_empty() || hint.len() > LONGEST_HINT {
            mistakes.add(format!("volume attribute {OWN_PREFIX}hint must have 1 to {LONGEST_HINT} bytes"));
        }
        Some(hint.to_owned())
    }

    /// The names of the socket: the volume's own, with commas between them, else the usual ones.
    pub(crate) fn sockets(&self, mistakes: &mut RequestMistakes) -> Option<Vec<FileName>> {
        let Some(own) = self.list(table::SOCKET_NAME) else {
            return Some(USUAL_SOCKETS.map(|name| FileName::parse(name).expect("a plain file name")).into());
        };
        let attribute = format!("volume attribute {OWN_PREFIX}socket-name");
        if own.len() > MOST_SOCKET_NAMES {
            mistakes.add(format!("{attribute} has {} names, at most {MOST_SOCKET_NAMES} are allowed", own.len()));
            return None;
        }
        let mut names: Vec<FileName> = Vec::with_capacity(own.len());
        for name in own {
            let name = FileName::parse(&name).map_err(|error| format!("{attribute}: {error}"));
            let name = mistakes.take(name)?;
            if name.as_str().len() > LONGEST_SOCKET_NAME {
                mistakes.add(format!("{attribute} has a name of more than {LONGEST_SOCKET_NAME} bytes"));
            }
            if names.contains(&name) {
                mistakes.add(format!("{attribute} has the name {name} twice"));
            }
            names.push(name);
        }
        Some(names)
    }

    /// The names of Envoy's special secrets: the volume's own, else those of SPIRE's agents.
    pub(crate) fn secret_names(&self, mistakes: &mut RequestMistakes) -> SecretNames {
        let mut name = |attribute: Attribute, usual: String| {
            let Some(name) = self.get(attribute) else { return usual };
            if name.is_empty() || name.len() > LONGEST_SECRET_NAME {
                let attribute = attribute.name;
                mistakes.add(format!(
                    "volume attribute {OWN_PREFIX}{attribute} must have 1 to {LONGEST_SECRET_NAME} bytes"
                ));
            }
            name.to_owned()
        };
        let usual = SecretNames::default();
        let names = SecretNames {
            svid: name(table::SDS_SVID_NAME, usual.svid),
            bundle: name(table::SDS_BUNDLE_NAME, usual.bundle),
            all_bundles: name(table::SDS_ALL_BUNDLES_NAME, usual.all_bundles),
        };
        mistakes.take(names.check_distinct());
        names
    }

    /// Reports every attribute that applies only to another delivery.
    pub(crate) fn refuse_what_is_not_of(&self, delivery: Delivery, mistakes: &mut RequestMistakes) {
        for Attribute { name, deliveries, .. } in ATTRIBUTES {
            if !deliveries.contains(&delivery) && self.own.contains_key(name) {
                mistakes.add(format!(
                    "volume attribute {OWN_PREFIX}{name} has no meaning with delivery `{delivery}`: leave it out"
                ));
            }
        }
    }
}
