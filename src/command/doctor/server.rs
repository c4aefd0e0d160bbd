//! The key to secutools, and what the server says to it.

use crate::config::{DelegationOff, Secutools};
use crate::remote::{self, ErrorKind, JobId, Limits};
use crate::report::DoctorRow;

/// The key's source, and the server's answer to a question about a job that does not exist.
///
/// `service_has_key`: `ccl.service` loads the key as a credential, which nobody else can read.
pub(super) fn checks(
    secutools: &Result<Secutools, DelegationOff>,
    service_has_key: bool,
) -> Vec<DoctorRow> {
    let secutools = match secutools {
        Ok(secutools) => secutools,
        Err(off @ DelegationOff::NotConfigured) => {
            return vec![DoctorRow::skipped("secutools", format!("{off}: every task runs here"))];
        }
        Err(DelegationOff::NoKey) if service_has_key => {
            return vec![DoctorRow {
                remedy: Some(
                    "to ask the server: systemd-run --user --wait --pipe \
                     --property=LoadCredential=secutools_api_key:FILE ccl doctor"
                        .to_owned(),
                ),
                ..DoctorRow::skipped("key", "only ccl.service has it, as a systemd credential")
            }];
        }
        Err(off) => {
            return vec![DoctorRow::bad("key", "nothing can be delegated", off.to_string())];
        }
    };
    let key = DoctorRow::good("key", format!("from {}", secutools.key_source));
    vec![key, answer(secutools)]
}

fn answer(secutools: &Secutools) -> DoctorRow {
    let client = match remote::client(secutools, Limits::default()) {
        Ok(client) => client,
        Err(error) => {
            return DoctorRow::bad(
                "secutools",
                format!("{error:#}"),
                "check the proxy's variables",
            );
        }
    };
    let error = client.get(&JobId::unused()).err();
    let (text, remedy) = match error.map(|error| (error.kind, error.text)) {
        None | Some((ErrorKind::UnknownJob, _)) => {
            let url = secutools.url.as_str();
            return DoctorRow::good("secutools", format!("{url} answers and takes the key"));
        }
        Some((ErrorKind::Unauthorized, text)) => (text, "get a new API key, and put it there"),
        Some((ErrorKind::Busy | ErrorKind::Failing, text)) => (text, "try again in a while"),
        Some((_, text)) => (text, "check secutools.url, the network and the proxy"),
    };
    DoctorRow::bad("secutools", text, remedy)
}
