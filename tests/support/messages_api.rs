//! A loopback stand-in of the Anthropic Messages API, as far as Claude Code uses it.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::messages_wire::{read_request, respond, send_message};
use super::wait::{PATIENCE, poll};

/// How one turn is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The model says this and ends its turn.
    Text(String),
    /// The model calls a tool; the next scripted reply answers its result.
    Tool {
        /// `Bash`, `AskUserQuestion` …
        name: &'static str,
        /// The tool's parameters.
        input: Value,
    },
    /// Nothing at all until [`MessagesApi::release`]; then the model says this.
    Hang(String),
    /// The API refuses.
    Error {
        /// HTTP status.
        status: u16,
        /// `error.type` of the body.
        kind: &'static str,
        /// `error.message` of the body.
        message: String,
        /// Further response headers.
        headers: Vec<(String, String)>,
    },
}

impl Reply {
    /// A text answer.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// The model runs `command` in the foreground: the turn lasts as long as it does.
    pub fn bash(command: &str) -> Self {
        let input = json!({"command": command, "description": "Run it"});
        Self::Tool { name: "Bash", input }
    }

    /// The model starts `command` in the background and goes on.
    pub fn background(command: &str) -> Self {
        let input = json!({"command": command, "description": "Run it", "run_in_background": true});
        Self::Tool { name: "Bash", input }
    }

    /// The model asks the user to choose between two answers.
    pub fn question(question: &str) -> Self {
        let options = json!([{"label": "Left", "description": "The left one"},
                             {"label": "Right", "description": "The right one"}]);
        let input = json!({"questions": [{"question": question, "header": "Choice",
                                          "multiSelect": false, "options": options}]});
        Self::Tool { name: "AskUserQuestion", input }
    }

    fn error(status: u16, kind: &'static str, message: &str) -> Self {
        Self::Error { status, kind, message: message.to_owned(), headers: Vec::new() }
    }

    /// 429 of a used-up subscription; `reset` is Unix time in seconds. `x-should-retry: false` as
    /// the real API sends it, so that Claude Code gives up at once.
    pub fn rate_limited(reset: i64) -> Self {
        let message =
            "This request would exceed your account's rate limit. Please try again later.";
        Self::error(429, "rate_limit_error", message)
            .with_header("anthropic-ratelimit-unified-status", "rejected")
            .with_header("anthropic-ratelimit-unified-representative-claim", "five_hour")
            .with_header("anthropic-ratelimit-unified-reset", &reset.to_string())
            .with_header("anthropic-ratelimit-unified-5h-reset", &reset.to_string())
            .with_header("x-should-retry", "false")
    }

    /// 401: the key is not valid.
    pub fn unauthorized() -> Self {
        Self::error(401, "authentication_error", "invalid x-api-key")
            .with_header("x-should-retry", "false")
    }

    /// 400: no money left.
    pub fn no_credit() -> Self {
        let message = "Your credit balance is too low to access the Anthropic API. \
                       Please go to Plans & Billing to upgrade or purchase credits.";
        Self::error(400, "invalid_request_error", message)
    }

    /// 500, not to be retried.
    pub fn server_error() -> Self {
        Self::error(500, "api_error", "Internal server error")
            .with_header("x-should-retry", "false")
    }

    /// 529, not to be retried.
    pub fn overloaded() -> Self {
        Self::error(529, "overloaded_error", "Overloaded").with_header("x-should-retry", "false")
    }

    /// The same refusal without a word on when the limit is reset.
    pub fn without_reset(mut self) -> Self {
        let Self::Error { headers, .. } = &mut self else {
            panic!("only a refusal carries headers: {self:?}");
        };
        headers.retain(|(name, _)| !name.ends_with("-reset"));
        self
    }

    /// The same refusal with one header more; a header of that name is replaced.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let Self::Error { headers, .. } = &mut self else {
            panic!("only a refusal carries headers: {self:?}");
        };
        headers.retain(|(known, _)| known != name);
        headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// `POST`, `GET`, `HEAD` …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The JSON body; `Null` where there is none.
    pub body: Value,
}

impl Request {
    /// Whether this is a turn of the conversation, not one of the small requests beside it (a title,
    /// a quota check, counted tokens): only a turn offers tools.
    pub fn is_turn(&self) -> bool {
        self.path.split('?').next() == Some("/v1/messages")
            && self.body["tools"].as_array().is_some_and(|t| !t.is_empty())
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    /// The text of the last `user` message: the prompt, with whatever reminders Claude Code adds
    /// (it puts `system` messages after it).
    pub fn prompt(&self) -> String {
        self.user_texts().pop().unwrap_or_default()
    }

    /// The text of all `user` messages, oldest first.
    pub fn user_texts(&self) -> Vec<String> {
        let messages = self.body["messages"].as_array();
        let users = messages.into_iter().flatten().filter(|m| m["role"] == "user");
        users.map(|m| text_of(&m["content"])).collect()
    }
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts: Vec<_> = blocks.iter().filter_map(|b| b["text"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

/// The stand-in; it stops listening when dropped. Without a script every turn is answered `OK`.
pub struct MessagesApi {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    requests: Vec<Request>,
    script: VecDeque<Reply>,
    otherwise: Reply,
    released: u64,
    stopping: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            requests: Vec::new(),
            script: VecDeque::new(),
            otherwise: Reply::text("OK"),
            released: 0,
            stopping: false,
        }
    }
}

impl MessagesApi {
    /// Listens on a free loopback port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if served.lock().stopping {
                    return;
                }
                let served = Arc::clone(&served);
                // A client that hangs up in the middle is no fault of the test.
                thread::spawn(move || stream.and_then(|s| serve(&served, &s)));
            }
        });
        Self { address, shared }
    }

    /// For `ANTHROPIC_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Appends replies for the next turns, one each.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.lock().script.extend(replies);
    }

    /// What turns get that the script does not cover.
    pub fn otherwise(&self, reply: Reply) {
        self.shared.lock().otherwise = reply;
    }

    /// Lets every turn go on that hangs now.
    pub fn release(&self) {
        self.shared.lock().released += 1;
        self.shared.changed.notify_all();
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Every turn so far.
    pub fn turns(&self) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(Request::is_turn);
        requests
    }

    /// Waits for a turn whose prompt contains `text`, and returns it.
    #[track_caller]
    pub fn wait_for_turn(&self, text: &str) -> Request {
        let found = || self.turns().into_iter().find(|r| r.prompt().contains(text));
        poll(PATIENCE, found).unwrap_or_else(|| {
            let seen: Vec<_> = self.requests().iter().map(summary).collect();
            panic!("no turn with {text:?}; requests:\n{}", seen.join("\n"))
        })
    }
}

fn summary(request: &Request) -> String {
    let text: String = request.prompt().chars().take(200).collect();
    format!("{} {} {text:?}", request.method, request.path)
}

impl Drop for MessagesApi {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        // Wakes the accepting thread, which then sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the lock")
    }

    /// Notes that `request` has arrived, and takes its reply from the script if it is a turn. A test that sees it may
    /// release it at once.
    fn reply(&self, request: &Request) -> Reply {
        let mut state = self.lock();
        state.requests.push(request.clone());
        if !request.is_turn() {
            return Reply::text("Stand-in");
        }
        let scripted = state.script.pop_front();
        let reply = scripted.unwrap_or_else(|| state.otherwise.clone());
        let Reply::Hang(text) = reply else {
            return reply;
        };
        let before = state.released;
        let held = |s: &mut State| s.released == before && !s.stopping;
        drop(self.changed.wait_while(state, held).expect("lock"));
        Reply::Text(text)
    }
}

/// Answers one request and closes the connection.
fn serve(shared: &Shared, stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let Some(request) = read_request(stream)? else {
        return Ok(());
    };
    let path = request.path.split('?').next().unwrap_or_default();
    let reply = shared.reply(&request);
    match (request.method.as_str(), path) {
        ("POST", "/v1/messages") => match reply {
            Reply::Error { status, kind, message, headers } => {
                let body = json!({"type": "error", "error": {"type": kind, "message": message},
                                  "request_id": "req_standin"});
                respond(stream, status, &headers, &body.to_string())
            }
            Reply::Tool { name, input } => {
                send_message(stream, &request, &tool_use(name, &input), "tool_use")
            }
            Reply::Text(text) | Reply::Hang(text) => {
                let block = json!({"type": "text", "text": text});
                send_message(stream, &request, &block, "end_turn")
            }
        },
        ("POST", "/v1/messages/count_tokens") => {
            respond(stream, 200, &[], r#"{"input_tokens":100}"#)
        }
        _ => respond(stream, 200, &[], "{}"),
    }
}

fn tool_use(name: &str, input: &Value) -> Value {
    let id = format!("toolu_{}", uuid::Uuid::new_v4().simple());
    json!({"type": "tool_use", "id": id, "name": name, "input": input})
}
