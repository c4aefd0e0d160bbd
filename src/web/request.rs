//! What a request asks for, from the bytes of its head. Pure.
//!
//! Only what is understood is answered. A request under a foreign name may come from a page of that site (DNS
//! rebinding), so the name must be this machine's own, or one that the configuration lists.

use std::net::IpAddr;

use httparse::{EMPTY_HEADER, Error, Header, Status};

/// The longest head, in bytes: the request line, the header lines and the empty line.
pub const MAX_HEAD: usize = 8 << 10;
/// More header lines are refused, however short they are.
const MAX_LINES: usize = 100;

/// What the bytes received so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The beginning of a head.
    Incomplete,
    Whole(Request),
    Refused(Refusal),
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `/api/report`, as it was sent.
    pub path: String,
    /// What stands behind the question mark; empty without one.
    pub query: String,
    /// Only the head of the response is wanted.
    pub is_head: bool,
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 405, 408, 413, 414, 421, 431.
    pub status: u16,
    pub detail: String,
    /// See [`Request::is_head`].
    pub is_head: bool,
}

impl Refusal {
    pub(crate) fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), is_head: false }
    }
}

impl Request {
    /// The value of a parameter of the query; the last one where there are several.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs.filter(|(key, _)| key == name).last().map(|(_, value)| value.into_owned())
    }
}

/// Reads a head of at most [`MAX_HEAD`] bytes. What follows it is not looked at. `hosts` are names under which this
/// machine may be asked, beside its own.
pub fn read(bytes: &[u8], hosts: &[String]) -> Asked {
    let head = &bytes[..bytes.len().min(MAX_HEAD)];
    let mut lines = [EMPTY_HEADER; MAX_LINES];
    let mut parsed = httparse::Request::new(&mut lines);
    match parsed.parse(head) {
        Ok(Status::Complete(_)) => match examine(&parsed, hosts) {
            Ok(request) => Asked::Whole(request),
            Err(refusal) => {
                Asked::Refused(Refusal { is_head: parsed.method == Some("HEAD"), ..refusal })
            }
        },
        Ok(Status::Partial) if bytes.len() < MAX_HEAD => Asked::Incomplete,
        Ok(Status::Partial) => Asked::Refused(too_long(head)),
        Err(Error::TooManyHeaders) => {
            Asked::Refused(Refusal::new(431, format!("more than {MAX_LINES} header lines")))
        }
        Err(error) => Asked::Refused(Refusal::new(400, format!("this is not HTTP/1.1: {error}"))),
    }
}

fn too_long(head: &[u8]) -> Refusal {
    // Empty lines may stand before the request line.
    let line = head.iter().skip_while(|byte| b"\r\n".contains(byte));
    let limit = MAX_HEAD >> 10;
    match line.into_iter().any(|byte| *byte == b'\n') {
        true => Refusal::new(431, format!("the head is longer than {limit} KiB")),
        false => Refusal::new(414, format!("the request line is longer than {limit} KiB")),
    }
}

fn examine(parsed: &httparse::Request<'_, '_>, hosts: &[String]) -> Result<Request, Refusal> {
    let lines = &*parsed.headers;
    let target = parsed.path.unwrap_or_default();
    let named = host(lines, parsed.version)?;
    let is_head = match parsed.method {
        Some("GET") => Ok(false),
        Some("HEAD") => Ok(true),
        _ => Err(Refusal::new(405, "only GET and HEAD: nothing can be changed from here")),
    };
    // The target of OPTIONS or CONNECT need not be a path: the method is then the better reason.
    let (authority, target) =
        split_target(target).map_err(|no_path| is_head.clone().err().unwrap_or(no_path))?;
    if let Some(foreign) =
        [named, authority].into_iter().flatten().find(|name| !is_ours(name, hosts))
    {
        let detail = format!(
            "this machine is not asked for as {foreign}: ask for localhost, or list the name under http.hosts in ccl's configuration"
        );
        return Err(Refusal::new(421, detail));
    }
    no_body(lines)?;
    let is_head = is_head?;
    // A client that knows what a fragment is never sends one: what stands behind `#` is dropped.
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Request { path: path.to_owned(), query: query.to_owned(), is_head })
}

/// The value of the one `Host` line; in HTTP/1.0 there may be none.
fn host<'a>(lines: &[Header<'a>], version: Option<u8>) -> Result<Option<&'a str>, Refusal> {
    let mut found = of_name(lines, "Host");
    match (found.next(), found.next()) {
        (None, _) if version == Some(0) => Ok(None),
        (None, _) => Err(Refusal::new(400, "there is no Host line")),
        (Some(_), Some(_)) => Err(Refusal::new(400, "there is more than one Host line")),
        (Some(value), None) => str::from_utf8(value)
            .map(|text| Some(text.trim()))
            .map_err(|_| Refusal::new(400, "the Host line is not text")),
    }
}

/// The target's own name, where it has one (`http://localhost/x`), and its path.
fn split_target(target: &str) -> Result<(Option<&str>, &str), Refusal> {
    if target.starts_with('/') {
        return Ok((None, target));
    }
    let scheme = target.get(..7).filter(|it| it.eq_ignore_ascii_case("http://"));
    let Some(rest) = scheme.and_then(|scheme| target.get(scheme.len()..)) else {
        return Err(Refusal::new(400, "the request's target is no path"));
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    Ok((Some(authority), if path.starts_with('/') { path } else { "/" }))
}

/// Whether a name, with or without a port, is one of this machine's own, or is listed in the configuration.
fn is_ours(authority: &str, hosts: &[String]) -> bool {
    let Some(name) = without_port(authority) else { return false };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = address.parse::<IpAddr>() {
        return address.to_canonical().is_loopback() || is_listed(name, hosts);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || is_listed(name, hosts)
}

fn is_listed(name: &str, hosts: &[String]) -> bool {
    hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
}

/// The name without `:PORT`; `None` where what follows the colon is no port.
fn without_port(authority: &str) -> Option<&str> {
    // The colons inside an IPv6 address are passed over.
    let end = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[end..].find(':') else { return Some(authority) };
    let (name, port) = authority.split_at(end + colon);
    let port = &port[1..];
    (port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// Refuses a request that brings a body.
fn no_body(lines: &[Header<'_>]) -> Result<(), Refusal> {
    let too_much = || Refusal::new(413, "a request has no body here");
    if of_name(lines, "Transfer-Encoding").next().is_some() {
        return Err(too_much());
    }
    for length in of_name(lines, "Content-Length") {
        let digits = length.trim_ascii();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::new(400, "Content-Length is not a number"));
        }
        if digits.iter().any(|digit| *digit != b'0') {
            return Err(too_much());
        }
    }
    Ok(())
}

fn of_name<'a>(lines: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    lines.iter().filter(move |line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Vec<String> {
        vec!["ccl.example".to_owned(), "192.0.2.7".to_owned()]
    }

    fn asked(head: &str) -> Asked {
        read(head.as_bytes(), &hosts())
    }

    #[track_caller]
    fn whole(head: &str) -> Request {
        match asked(head) {
            Asked::Whole(request) => request,
            other => panic!("{head:?}: {other:?}"),
        }
    }

    #[track_caller]
    fn status(head: &str) -> u16 {
        match asked(head) {
            Asked::Refused(refusal) => refusal.status,
            other => panic!("{head:?}: {other:?}"),
        }
    }

    fn get(target: &str) -> String {
        format!("GET {target} HTTP/1.1\r\nHost: localhost:7433\r\n\r\n")
    }

    #[test]
    fn a_request_names_a_path_and_a_query() {
        let request = whole(&get("/api/report?since=2026-11-26&a=%C3%A9+%26&since=7d"));
        assert_eq!(request.path, "/api/report");
        assert!(!request.is_head);
        assert_eq!(request.parameter("since").as_deref(), Some("7d"));
        assert_eq!(request.parameter("a").as_deref(), Some("é &"));
        assert_eq!(request.parameter("b"), None);
        assert_eq!(whole(&get("/?")).query, "");
        assert!(whole("HEAD / HTTP/1.0\r\n\r\n").is_head);
        let absolute = whole(&get("http://localhost:7433/healthz?x"));
        assert_eq!((absolute.path.as_str(), absolute.query.as_str()), ("/healthz", "x"));
        assert_eq!(whole(&get("HTTP://[::1]")).path, "/");
        // What follows is not looked at.
        assert_eq!(whole(&(get("/a") + "GET /b HTTP/9\r\n")).path, "/a");
    }

    #[test]
    fn every_prefix_of_a_head_is_its_beginning() {
        let head = get("/metrics");
        for end in 0..head.len() {
            assert_eq!(asked(&head[..end]), Asked::Incomplete, "{:?}", &head[..end]);
        }
    }

    #[test]
    fn only_names_of_this_machine_and_listed_ones_are_answered() {
        let named = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        for host in [
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "localhost:",
            "127.0.0.1:7433",
            "127.8.9.1",
            "[::1]:7433",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "ccl.example:80",
            "CCL.Example",
            "192.0.2.7:7433",
        ] {
            whole(&named(host));
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example:7433",
            "192.0.2.8",
            "0.0.0.0",
            "[::]",
            "localhost@evil.example",
            "localhost:7433:1",
            "localhost:x",
            "localhost:123456",
            "",
            "::1",
        ] {
            assert_eq!(status(&named(host)), 421, "{host}");
        }
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        let twice = "GET / HTTP/1.1\r\nHost: localhost\r\nhost: localhost\r\n\r\n";
        assert_eq!(status(twice), 400);
        assert_eq!(status(&get("http://evil.example/")), 421);
        whole("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(status("GET / HTTP/1.0\r\nHost: evil.example\r\n\r\n"), 421);
    }

    #[test]
    fn a_request_that_brings_or_changes_something_is_refused() {
        let with = |line: &str| format!("GET / HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n");
        assert_eq!(status(&with("Content-Length: 1")), 413);
        assert_eq!(status(&with("Content-Length: 99999999999999999999999")), 413);
        assert_eq!(status(&with("Transfer-Encoding: chunked")), 413);
        assert_eq!(status(&with("Content-Length: -1")), 400);
        assert_eq!(status(&with("Content-Length: 0\r\nContent-Length: 2")), 413);
        whole(&with("Content-Length: 0"));
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "CONNECT"] {
            assert_eq!(status(&get("/").replacen("GET", method, 1)), 405, "{method}");
        }
        // Neither target is a path.
        for line in ["OPTIONS *", "CONNECT localhost:443", "CONNECT elsewhere.example:443"] {
            assert_eq!(
                status(&format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n")),
                405,
                "{line}"
            );
        }
        let Asked::Refused(refusal) = asked("HEAD / HTTP/1.1\r\n\r\n") else { panic!() };
        assert!(refusal.is_head);
    }

    #[test]
    fn what_is_no_http_is_refused() {
        for head in [
            "hello\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET https://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n",
            "\u{16}\u{3}\u{1}",
            "\0",
        ] {
            assert_eq!(status(head), 400, "{head:?}");
        }
    }

    #[test]
    fn a_head_has_an_end_within_8_kib() {
        let filled = |length: usize| {
            let start = "GET / HTTP/1.1\r\nHost: localhost\r\nX: ";
            format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
        };
        whole(&filled(MAX_HEAD));
        assert_eq!(status(&filled(MAX_HEAD + 1)), 431);
        let line = format!("GET /{}", "x".repeat(MAX_HEAD));
        assert_eq!(asked(&line[..MAX_HEAD - 1]), Asked::Incomplete);
        assert_eq!(status(&line), 414);
        let lines = "a: b\r\n".repeat(101);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{lines}\r\n")), 431);
    }
}
