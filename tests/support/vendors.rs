//! A loopback stand-in of the APIs that other vendors' agents ask: OpenAI's, which others offer too, and Google's.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::messages_api::Request;
use super::messages_wire::{read_request, respond, respond_events};

/// What the model says to every prompt.
const ANSWER: &str = "It is done.";

/// The stand-in; it stops listening when dropped. Every turn is answered with one sentence, until [`Self::limit`].
pub struct VendorsApi {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    limit: Option<Value>,
    stopping: bool,
}

impl VendorsApi {
    /// Listens on a free loopback port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(Mutex::new(State::default()));
        let served = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if lock(&served).stopping {
                    return;
                }
                let served = Arc::clone(&served);
                // A client that hangs up in the middle is no fault of the test.
                thread::spawn(move || stream.and_then(|stream| serve(&served, &stream)));
            }
        });
        Self { address, state }
    }

    /// Where it listens: `http://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on the answer is 429 with this body; `None`: it is as before.
    pub fn limit(&self, body: Option<Value>) {
        lock(&self.state).limit = body;
    }

    /// How many requests had these words in them.
    pub fn asked(&self, words: &str) -> usize {
        let state = lock(&self.state);
        let has_them = |request: &&Request| request.body.to_string().contains(words);
        state.requests.iter().filter(has_them).count()
    }
}

impl Drop for VendorsApi {
    fn drop(&mut self) {
        lock(&self.state).stopping = true;
        // Wakes the accepting thread, which then sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no thread panics with the lock")
}

/// Answers one request and closes the connection.
fn serve(state: &Mutex<State>, stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let Some(request) = read_request(stream)? else {
        return Ok(());
    };
    let path = request.path.clone();
    let limit = {
        let mut state = lock(state);
        state.requests.push(request);
        state.limit.clone()
    };
    if let Some(body) = limit {
        // Some try again, and wait for as long as they are told.
        let soon = [("retry-after-ms".to_owned(), "10".to_owned())];
        return respond(stream, 429, &soon, &body.to_string());
    }
    if path.ends_with("/responses") {
        respond_events(stream, &response())
    } else if path.ends_with("/chat/completions") {
        respond_events(stream, &completion())
    } else if path.contains(":streamGenerateContent") {
        respond_events(stream, &[("", generated())])
    } else if path.contains(":generateContent") {
        respond(stream, 200, &[], &generated().to_string())
    } else {
        respond(stream, 404, &[], r#"{"error":{"message":"not here"}}"#)
    }
}

/// Of OpenAI's newer API.
fn response() -> [(&'static str, Value); 3] {
    let message = json!({"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
        "content": [{"type": "output_text", "text": ANSWER, "annotations": []}]});
    let usage = json!({"input_tokens": 10, "input_tokens_details": null, "output_tokens": 2,
        "output_tokens_details": null, "total_tokens": 12});
    let event = |name: &'static str, more: Value| {
        let mut event = more;
        event["type"] = json!(name);
        (name, event)
    };
    [
        event("response.created", json!({"response": {"id": "resp_1"}})),
        event("response.output_item.done", json!({"output_index": 0, "item": message})),
        event(
            "response.completed",
            json!({"response": {"id": "resp_1", "output": [message], "usage": usage}}),
        ),
    ]
}

/// Of OpenAI's older one, which many others offer.
fn completion() -> [(&'static str, Value); 2] {
    let chunk = |delta: Value, reason: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [choice]});
        ("", chunk)
    };
    [
        chunk(json!({"role": "assistant", "content": ANSWER}), Value::Null),
        chunk(json!({}), json!("stop")),
    ]
}

/// Of Google's.
fn generated() -> Value {
    json!({
        "candidates": [{"content": {"role": "model", "parts": [{"text": ANSWER}]},
                        "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 3, "totalTokenCount": 13},
        "modelVersion": "gemini-2.5-pro",
    })
}
