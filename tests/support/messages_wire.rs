//! HTTP and server-sent events of [`super::messages_api`].

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::messages_api::Request;

/// Between the end of what the model says and the end of its message. From the real API they come
/// apart too, and Claude Code may write its transcript in between.
const BEFORE_THE_END: Duration = Duration::from_millis(50);

/// Reads one request; `None` when the client hung up without one.
pub fn read_request(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(Some(Request { method, path, headers, body }))
}

/// Answers with a JSON body; the end of the connection is the end of the body.
pub fn respond(
    mut stream: &TcpStream,
    status: u16,
    headers: &[(String, String)],
    body: &str,
) -> std::io::Result<()> {
    write_head(stream, status, "application/json", headers)?;
    stream.write_all(body.as_bytes())
}

/// Answers with server-sent events, each with its name where it has one.
pub fn respond_events(mut stream: &TcpStream, events: &[(&str, Value)]) -> std::io::Result<()> {
    write_head(stream, 200, "text/event-stream", &[])?;
    for (name, event) in events {
        if !name.is_empty() {
            stream.write_all(format!("event: {name}\n").as_bytes())?;
        }
        stream.write_all(format!("data: {event}\n\n").as_bytes())?;
    }
    Ok(())
}

fn write_head(
    mut stream: &TcpStream,
    status: u16,
    kind: &str,
    headers: &[(String, String)],
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Stand-in\r\nContent-Type: {kind}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "request-id: req_standin\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes())
}

/// A whole answer with one content block: as server-sent events, or at once if no stream was asked
/// for.
pub fn send_message(
    mut stream: &TcpStream,
    request: &Request,
    block: &Value,
    stop_reason: &str,
) -> std::io::Result<()> {
    let usage = json!({"input_tokens": 100, "output_tokens": 10,
                       "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0});
    let message = json!({
        "id": format!("msg_{}", uuid::Uuid::new_v4().simple()), "type": "message",
        "role": "assistant", "model": request.body["model"], "content": [block],
        "stop_reason": stop_reason, "stop_sequence": null, "usage": usage,
    });
    if request.body["stream"] != true {
        return respond(stream, 200, &[], &message.to_string());
    }
    write_head(stream, 200, "text/event-stream", &[])?;
    for event in events(message, block, stop_reason) {
        let name = event["type"].as_str().unwrap_or_default();
        if name == "message_delta" {
            thread::sleep(BEFORE_THE_END);
        }
        stream.write_all(format!("event: {name}\ndata: {event}\n\n").as_bytes())?;
    }
    Ok(())
}

fn events(mut message: Value, block: &Value, stop_reason: &str) -> Vec<Value> {
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    let (empty, delta) = match block["type"].as_str() {
        Some("tool_use") => {
            let mut empty = block.clone();
            empty["input"] = json!({});
            let partial = block["input"].to_string();
            (empty, json!({"type": "input_json_delta", "partial_json": partial}))
        }
        _ => (
            json!({"type": "text", "text": ""}),
            json!({"type": "text_delta", "text": block["text"]}),
        ),
    };
    vec![
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": empty}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "usage": {"output_tokens": 10},
               "delta": {"stop_reason": stop_reason, "stop_sequence": null}}),
        json!({"type": "message_stop"}),
    ]
}
