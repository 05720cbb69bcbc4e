//! What a pod's Envoy asks of its socket: it is sent what it asked for and nothing else, each version once, until it asks
//! for something else; errors are short and printable.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use svid_csi::fuzzing::workload_api::{REQUEST, SecretStream};
use svid_csi_core::volume::SecretNames;
use svid_csi_fuzz::{CONTEXT, ID, assert_printable};
use svid_csi_proto::sds::secret::Type;
use svid_csi_proto::sds::{DiscoveryRequest, DiscoveryResponse, Secret};

/// Names for requests, by their numbers.
const NAMES: [&str; 8] = ["default", "ROOTCA", "ALL", ID, "spiffe://example.org", "spiffe://other.example", "", "x"];

/// The size of an error in the headers of a response, in bytes. Clients accept 8 KiB or more in all.
const ERROR: usize = 4096;

struct Talk {
    stream: SecretStream,
    last: DiscoveryResponse,
    asked: Option<BTreeSet<String>>,
}

// Steps: which, the size of what follows in two bytes, and this, which is a request, names on lines, or numbers of names.
fuzz_target!(|input: &[u8]| {
    let mut steps = input;
    let stream = SecretStream::new(CONTEXT.clone(), SecretNames::default());
    let mut talk = Talk { stream, last: DiscoveryResponse::default(), asked: None };
    while let [step, high, low, rest @ ..] = steps {
        let size = usize::from(u16::from_be_bytes([*high, *low]));
        let (text, rest) = rest.split_at(rest.len().min(size));
        steps = rest;
        let goes_on = match step % 6 {
            0 => DiscoveryRequest::decode(text).map_or(true, |request| talk.ask(request)),
            1 => talk.ask_for(String::from_utf8_lossy(text).split('\n').map(str::to_owned).collect()),
            2 => talk.ask_for(text.iter().map(|number| NAMES[usize::from(number % 8)].to_owned()).collect()),
            3 => talk.acknowledge(),
            4 => talk.change(),
            _ => {
                let name = String::from_utf8_lossy(text);
                talk.ask_for((0..=size % 128).map(|number| format!("{name}{number}")).collect())
            }
        };
        if !goes_on {
            return;
        }
    }
});

impl Talk {
    fn ask_for(&mut self, names: Vec<String>) -> bool {
        let response_nonce = self.last.nonce.clone();
        self.ask(DiscoveryRequest { resource_names: names, response_nonce, ..Default::default() })
    }

    fn ask(&mut self, request: DiscoveryRequest) -> bool {
        if request.encoded_len() > REQUEST {
            return false;
        }
        let names: BTreeSet<_> = request.resource_names.iter().cloned().collect();
        let is_answered = self.last.nonce.is_empty() || request.response_nonce == self.last.nonce;
        let is_new = is_answered && self.asked.as_ref() != Some(&names);
        match self.stream.ask(request) {
            Ok(response) => {
                assert_eq!(response.is_some(), is_new, "{:?} and then {names:?}", self.asked);
                if is_answered {
                    self.asked = Some(names);
                }
                self.see(response);
                true
            }
            Err(status) => {
                assert_printable(status.message());
                assert!(status.message().len() <= ERROR, "{}", status.message().len());
                false
            }
        }
    }

    fn acknowledge(&mut self) -> bool {
        let Some(names) = self.asked.clone() else { return true };
        let (response_nonce, version_info) = (self.last.nonce.clone(), self.last.version_info.clone());
        let resource_names = names.into_iter().rev().collect();
        let request = DiscoveryRequest { resource_names, response_nonce, version_info, ..Default::default() };
        self.ask(request)
    }

    fn change(&mut self) -> bool {
        let Ok(response) = self.stream.change(CONTEXT.clone()) else { return false };
        assert_eq!(response.is_some(), self.asked.is_some());
        self.see(response);
        true
    }

    fn see(&mut self, response: Option<DiscoveryResponse>) {
        let (Some(response), Some(asked)) = (response, &self.asked) else { return };
        let number = |text: &str, radix| u64::from_str_radix(text, radix).unwrap_or_default();
        assert!(number(&response.nonce, 16) == number(&self.last.nonce, 16) + 1);
        assert!(number(&response.version_info, 10) >= number(&self.last.version_info, 10));
        let asked: BTreeSet<_> = asked.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        let all = BTreeSet::from([ID, "spiffe://example.org", "spiffe://other.example"]);
        let secrets: Vec<_> = response.resources.iter().map(|any| Secret::decode(&*any.value).expect("one")).collect();
        let sent: BTreeSet<_> = secrets.iter().map(|secret| secret.name.as_str()).collect();
        assert_eq!(sent, if asked.is_empty() { all } else { asked });
        assert_eq!(sent.len(), secrets.len());
        for secret in &secrets {
            let is_pair = matches!(secret.r#type, Some(Type::TlsCertificate(_)));
            assert_eq!(is_pair, ["default", ID].contains(&secret.name.as_str()), "{}", secret.name);
        }
        self.last = response;
    }
}
