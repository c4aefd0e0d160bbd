//! The key to secutools, and what the server says to it.

use uuid::Uuid;

use crate::config::{DelegationOff, Secutools};
use crate::remote;
use crate::remote::{ErrorKind, JobId, Limits};
use crate::report::Check;

/// The key's source, and the server's answer to a question about a job that does not exist.
///
/// `service_has_key`: `ccl.service` loads the key as a credential, which nobody else can read.
pub(super) fn checks(
    secutools: &Result<Secutools, DelegationOff>,
    service_has_key: bool,
) -> Vec<Check> {
    let secutools = match secutools {
        Ok(secutools) => secutools,
        Err(off @ DelegationOff::NotConfigured) => {
            return vec![Check::skipped("secutools", format!("{off}: every task runs here"))];
        }
        Err(DelegationOff::NoKey) if service_has_key => {
            return vec![Check {
                remedy: Some(
                    "to ask the server: systemd-run --user --wait --pipe \
                     --property=LoadCredential=secutools_api_key:FILE ccl doctor"
                        .to_owned(),
                ),
                ..Check::skipped("key", "only ccl.service has it, as a systemd credential")
            }];
        }
        Err(off) => {
            return vec![Check::bad("key", "nothing can be delegated", off.to_string())];
        }
    };
    let key = Check::good("key", format!("from {}", secutools.key_source));
    vec![key, answer(secutools)]
}

fn answer(secutools: &Secutools) -> Check {
    let url = secutools.url.as_str();
    let asked = remote::client(secutools, Limits::default()).and_then(|client| {
        let unknown = JobId::try_from(format!("ccl-doctor-{}", Uuid::new_v4()));
        Ok(client.get(&unknown.map_err(anyhow::Error::msg)?))
    });
    let good = Check::good("secutools", format!("{url} answers and takes the key"));
    let (text, remedy) = match asked {
        Ok(Ok(_)) => return good,
        Ok(Err(error)) => match error.kind {
            ErrorKind::UnknownJob => return good,
            ErrorKind::Unauthorized => (error.text, "get a new API key, and put it there"),
            ErrorKind::Busy | ErrorKind::Failing => (error.text, "try again in a while"),
            _ => (error.text, "check secutools.url, the network and the proxy"),
        },
        Err(error) => (format!("{error:#}"), "check the proxy's variables"),
    };
    Check::bad("secutools", text, remedy)
}
