//! What goes over the wire between a client and the stand-in.

use std::io::{self, BufRead};

use serde_json::{Value, json};

/// What the server does with one request.
#[derive(Debug, Clone)]
pub enum Step {
    /// What secutools would do.
    Behave,
    /// The same, with `Connection: close`.
    BehaveAndClose,
    /// The same, but the connection is closed without a word: an idle connection that has died.
    BehaveAndVanish,
    /// Closes as soon as the request's first byte is there, without reading it.
    DropUnread,
    /// Reads the request, makes the job or not, and closes.
    DropRead { create: bool },
    /// Reads the request, makes the job, and closes in the middle of the answer's header.
    HalfHead,
    /// Reads the request, makes the job, and closes in the middle of the answer's body.
    HalfBody,
    /// Reads the request, makes the job or not, and never answers.
    Silence { create: bool },
    /// Makes the job and answers a byte at a time, without ever coming to an end.
    Drip,
    /// This answer, whatever the request; no job is made.
    Say(Answer),
    /// This answer; a job is made.
    CreateAndSay(Answer),
    /// These bytes instead of an answer; then it closes.
    Raw(Vec<u8>),
    /// This status, and a body that repeats the request's header, API key and all.
    Echo(u16),
}

impl Step {
    /// Answers `status` with an empty body, and makes no job.
    pub fn status(status: u16) -> Step {
        Step::Say(Answer::new(status, ""))
    }

    /// Answers `status` and asks to come back after `value`; makes no job.
    pub fn later(status: u16, value: &str) -> Step {
        Step::Say(Answer::new(status, "busy").header("Retry-After", value))
    }
}

/// An answer as it goes over the wire; its length is added.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, headers: Vec::new(), body: body.into() }
    }

    pub fn json(status: u16, body: &Value) -> Answer {
        Answer::new(status, body.to_string()).header("Content-Type", "application/json")
    }

    pub fn problem(status: u16, title: &str, detail: &str) -> Answer {
        let body =
            json!({"type": "about:blank", "status": status, "title": title, "detail": detail});
        Answer::new(status, body.to_string()).header("Content-Type", "application/problem+json")
    }

    pub fn html(status: u16, title: &str) -> Answer {
        let page =
            format!("<html><head><title>{title}</title></head><body><h1>{title}</h1></body>");
        Answer::new(status, page).header("Content-Type", "text/html")
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} Whatever\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(format!("Content-Length: {}\r\n\r\n", self.body.len()).bytes());
        bytes.extend(&self.body);
        bytes
    }
}

/// A request as it came over the wire.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which connection it came on, from 1.
    pub connection: usize,
    pub method: String,
    pub path: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The one header of this name; more than one is an error of the client.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "the header {name} was sent twice");
        value
    }
}

/// Reads one request, or fails where the client has gone.
pub fn read_request(reader: &mut impl BufRead, connection: usize) -> io::Result<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let mut words = lines[0].split(' ').map(str::to_owned);
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Request { connection, method, path, headers, body })
}
