//! The address of a server, and whether it is reached through a proxy. Pure.

use std::net::IpAddr;

use ureq::http::Uri;

/// The address of a server (secutools, Ray, a receiver of notifications): https, or http on this machine only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    text: String,
    host: String,
}

/// What is wrong with an address, as the end of a sentence. It never repeats the text, which may hold a password, or be
/// the API key in the wrong variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UrlError {
    #[error("is not an address such as https://secutools.example")]
    NoUrl,
    #[error("has a name or a password in it; take it out and use secutools.api_key_file")]
    Password,
    #[error("has a query or a fragment; give the address only")]
    Query,
    #[error("would send the API key unencrypted; use https (http is for loopback addresses only)")]
    Unencrypted,
}

impl ServerUrl {
    /// Reads `https://HOST[:PORT][/PATH]`; a slash at the end does not matter.
    ///
    /// The error is the end of a sentence that begins with where the text came from.
    pub fn parse(text: &str) -> Result<ServerUrl, String> {
        Self::read(text).map_err(|error| error.to_string())
    }

    /// Reads an address like [`ServerUrl::parse`]. The error has a kind that callers can distinguish.
    pub(super) fn read(text: &str) -> Result<ServerUrl, UrlError> {
        let text = text.trim().trim_end_matches('/');
        if text.contains('@') {
            return Err(UrlError::Password);
        }
        if text.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        let uri: Uri = text.parse().map_err(|_| UrlError::NoUrl)?;
        let authority = uri.authority().ok_or(UrlError::NoUrl)?;
        let host = bare(authority.host());
        // `Uri` takes a port that is empty, too large or 0: what follows the host must be a usable one.
        let port_is_sound = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => true,
            _ => authority.port_u16().is_some_and(|port| port > 0),
        };
        if host.is_empty() || !port_is_sound {
            return Err(UrlError::NoUrl);
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback(&host) => {}
            Some("http") => return Err(UrlError::Unencrypted),
            _ => return Err(UrlError::NoUrl),
        }
        let text = text.to_owned();
        Ok(ServerUrl { text, host })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The URL without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the server runs on this machine: such a server is never reached through a proxy.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// The proxy that the environment asks for: `https_proxy`, else `all_proxy`, unless `no_proxy`
    /// exempts the host or it is this machine. `variable` gives an environment variable's value;
    /// names in small letters come first, as in curl. `http_proxy` never applies: http is spoken only
    /// to this machine.
    pub(crate) fn proxy(&self, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
        let either = |name: &str| {
            variable(name)
                .filter(|value| !value.trim().is_empty())
                .or_else(|| variable(&name.to_ascii_uppercase()))
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let exempt = either("no_proxy").is_some_and(|list| self.is_exempt(&list));
        if self.is_loopback() || exempt {
            return None;
        }
        either("https_proxy").or_else(|| either("all_proxy"))
    }

    /// Whether the list in `no_proxy` names this host, a domain above it, or `*`.
    fn is_exempt(&self, list: &str) -> bool {
        list.split([',', ' '])
            .map(|entry| entry.trim().to_ascii_lowercase())
            .filter(|entry| !entry.is_empty())
            .any(|entry| {
                let domain = bare(entry.trim_start_matches("*.").trim_start_matches('.'));
                let above = self.host.strip_suffix(&domain);
                entry == "*" || above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            })
    }
}

/// A host in small letters, without the brackets of an IPv6 address and without the dot at a name's end.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase()
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_anywhere_and_http_on_this_machine_only() {
        for (text, want) in [
            ("https://secutools.example", "https://secutools.example"),
            ("https://secutools.example/base//", "https://secutools.example/base"),
            (" https://secutools.example:8443/ ", "https://secutools.example:8443"),
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
            ("http://127.9.9.9", "http://127.9.9.9"),
            ("http://LOCALHOST:1", "http://LOCALHOST:1"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(ServerUrl::parse(text).unwrap().as_str(), want, "{text}");
        }
        for text in [
            "",
            "intern",
            "intern.example",
            "ftp://intern.example",
            "https://",
            "http://intern.example",
            "http://10.0.0.1",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "https://me:secret@intern.example",
            "https://intern.example/?a=b",
            "https://intern.example#x",
            "https://intern.example:99999",
            "https://intern.example:",
            "https://a b",
            "https://:443",
        ] {
            let error = ServerUrl::parse(text).expect_err(text);
            // What was given may be a key that was pasted into the wrong place.
            assert!(!text.contains("intern") || !error.contains("intern"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    fn proxy_for(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        ServerUrl::parse(url).unwrap().proxy(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_proxy_applies_to_real_hosts_and_never_to_loopback() {
        let all = [
            ("HTTPS_PROXY", "http://p:1"),
            ("HTTP_PROXY", "http://p:2"),
            ("ALL_PROXY", "http://p:3"),
            ("https_proxy", "http://p:4"),
            ("http_proxy", "http://p:5"),
            ("all_proxy", "http://p:6"),
        ];
        let real = "https://api.secutools.example";
        assert_eq!(proxy_for(real, &all).as_deref(), Some("http://p:4"));
        assert_eq!(proxy_for(real, &all[..3]).as_deref(), Some("http://p:1"));
        assert_eq!(proxy_for(real, &all[1..3]).as_deref(), Some("http://p:3"));
        assert_eq!(proxy_for(real, &all[1..2]), None);
        assert_eq!(proxy_for(real, &[("https_proxy", ""), all[0]]).as_deref(), Some("http://p:1"));
        for local in [
            "http://127.0.0.1:1",
            "https://127.1.2.3",
            "http://[::1]:1",
            "https://localhost",
            "https://[::ffff:127.0.0.1]",
            "https://LocalHost.",
        ] {
            assert_eq!(proxy_for(local, &all), None, "{local}");
        }
    }

    #[test]
    fn no_proxy_names_hosts_and_domains() {
        let real = "https://api.Secutools.example:8443";
        for (list, direct) in [
            ("*", true),
            ("secutools.example", true),
            (".secutools.example", true),
            ("*.secutools.example", true),
            ("other, API.secutools.EXAMPLE", true),
            ("tools.example", false),
            ("api.secutools.example.org", false),
            ("", false),
            (",", false),
        ] {
            let variables = [("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", list)];
            assert_eq!(proxy_for(real, &variables).is_none(), direct, "{list}");
        }
    }
}
