//! The head of an HTTP request: nothing is answered that was not asked of this machine, whole, and without a body.

use ccl::web::request::{Asked, MAX_HEAD, Refusal, Request, read};

/// A name that is listed in the configuration.
const LISTED: &str = "ccl.example";

/// All of it, for what a connection has brought so far.
pub fn check(bytes: &[u8]) {
    let hosts = [LISTED.to_owned()];
    match read(bytes, &hosts) {
        Asked::Incomplete => assert!(bytes.len() < MAX_HEAD),
        Asked::Whole(request) => is_plain(&request, bytes, &hosts),
        Asked::Refused(refusal) => is_told(&refusal),
    }
    no_piece_is_taken_for_more(bytes, &hosts);
}

fn is_plain(request: &Request, bytes: &[u8], hosts: &[String]) {
    assert!(request.path.starts_with('/'), "{request:?}");
    assert!(!request.path.contains(['?', '#', ' ', '\r', '\n']), "{request:?}");
    // What follows a request is not looked at.
    let more = [bytes, b"GET /other HTTP/1.1\r\nHost: evil.example\r\n\r\n"].concat();
    assert_eq!(read(&more, hosts), Asked::Whole(request.clone()));
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let ours = ["localhost", "127.", "[", LISTED];
    assert!(
        text.contains("http/1.0") || ours.iter().any(|name| text.contains(name)),
        "asked under a foreign name: {text}"
    );
}

fn is_told(refusal: &Refusal) {
    assert!([400, 405, 413, 414, 421, 431].contains(&refusal.status), "{refusal:?}");
    assert!(!refusal.detail.is_empty());
}

/// However the bytes come, the answer is the same: each beginning is one, or says already what the whole says.
fn no_piece_is_taken_for_more(bytes: &[u8], hosts: &[String]) {
    let whole = read(bytes, hosts);
    for end in [bytes.len() / 2, bytes.len() * 3 / 4, bytes.len().saturating_sub(1)] {
        match read(&bytes[..end], hosts) {
            Asked::Incomplete => {}
            early => assert_eq!(early, whole, "{end}"),
        }
    }
}
