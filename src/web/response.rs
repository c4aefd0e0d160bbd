//! A response as bytes. Pure.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::json;

use super::Refusal;

/// Header lines of every response: no page of another site can read or frame it, nothing stores it, and no browser
/// takes it for another type.
const ALWAYS: &str = "Cache-Control: no-store\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n\
    Referrer-Policy: no-referrer\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Connection: close\r\n";

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    status: u16,
    content_type: &'static str,
    /// Further header lines, each with its line end.
    lines: String,
    body: String,
}

impl Response {
    pub(crate) fn new(status: u16, content_type: &'static str, body: String) -> Self {
        Self { status, content_type, lines: String::new(), body }
    }

    /// Problem details: <https://www.rfc-editor.org/rfc/rfc9457>.
    pub(crate) fn problem(status: u16, detail: &str) -> Self {
        let title = reason_phrase(status);
        let problem =
            json!({"type": "about:blank", "title": title, "status": status, "detail": detail});
        let response = Self::new(status, "application/problem+json", format!("{problem}\n"));
        match status {
            405 => response.with_line("Allow", "GET, HEAD"),
            _ => response,
        }
    }

    /// Adds a header line. Name and value are constants of `ccl`: nothing that a client sent gets into a head.
    pub(crate) fn with_line(mut self, name: &str, value: &str) -> Self {
        self.lines.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// What is written to the connection; without the body where only the head was asked for.
    pub(crate) fn bytes(&self, now: Timestamp, is_head: bool) -> Vec<u8> {
        let Self { status, content_type, lines, body } = self;
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
        // The format has only years of four digits: outside of those there is no `Date` line.
        let date = date.map_or(String::new(), |date| format!("Date: {date}\r\n"));
        let head = format!(
            "HTTP/1.1 {status} {}\r\n{date}Content-Type: {content_type}\r\nContent-Length: {}\r\n{lines}{ALWAYS}\r\n",
            reason_phrase(*status),
            body.len()
        );
        let body = if is_head { "" } else { body };
        [head.as_bytes(), body.as_bytes()].concat()
    }
}

impl From<&Refusal> for Response {
    fn from(refusal: &Refusal) -> Self {
        Self::problem(refusal.status, &refusal.detail)
    }
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_how_long_the_body_is_whether_it_is_sent_or_not() {
        let now: Timestamp = "2026-11-26T12:34:56.7Z".parse().unwrap();
        let response = Response::new(200, "text/plain; charset=utf-8", "né\n".to_owned());
        let response = response.with_line("Refresh", "30");
        let whole = String::from_utf8(response.bytes(now, false)).unwrap();
        let (head, body) = whole.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "né\n");
        for line in [
            "HTTP/1.1 200 OK",
            "Date: Thu, 26 Nov 2026 12:34:56 GMT",
            "Content-Length: 4",
            "Refresh: 30",
            "Connection: close",
        ] {
            assert!(head.split("\r\n").any(|it| it == line), "{line}\n{head}");
        }
        let only_head = String::from_utf8(response.bytes(now, true)).unwrap();
        assert_eq!(only_head, format!("{head}\r\n\r\n"));
    }

    #[test]
    fn a_refusal_is_told_in_json() {
        let response = Response::from(&Refusal::new(405, "no \"POST\""));
        let text = String::from_utf8(response.bytes(Timestamp::UNIX_EPOCH, false)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nAllow: GET, HEAD\r\n"), "{head}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["status"], 405);
        assert_eq!(problem["detail"], "no \"POST\"");
    }
}
