//! A stand-in for secutools over real TCP. It is written on plain `std::net`, so that it can
//! misbehave below HTTP: drop a connection at any point, answer half, or not at all.
//!
//! Left alone it behaves: a job for each new idempotency key, the same job for the same key. What
//! it shall do otherwise is a queue of [`Step`]s, one for each request that comes, whatever its
//! method; when the queue is empty, [`SecutoolsServer::otherwise`] counts.
// Each user of this module uses only a part of it, and a stand-in that fails ends its test.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{HashMap, VecDeque};
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

mod wire;

pub use wire::{Answer, Request, Step, read_request};

/// A job that the server has made.
#[derive(Debug, Clone)]
pub struct StandInJob {
    pub id: String,
    /// The idempotency key, as it was sent.
    pub key: String,
    /// The request's body.
    pub body: Vec<u8>,
    /// How often somebody asked about it.
    pub polls: usize,
    /// What is answered to `GET`.
    pub answer: Value,
}

/// How every job ends by itself.
#[derive(Debug, Clone)]
struct AutoFinish {
    polls: usize,
    output: String,
    cost: Value,
}

#[derive(Default)]
struct State {
    steps: VecDeque<Step>,
    otherwise: Option<Step>,
    requests: Vec<Request>,
    jobs: Vec<StandInJob>,
    ids: VecDeque<String>,
    expected_key: Option<String>,
    auto_finish: Option<AutoFinish>,
    connections: usize,
    open: HashMap<usize, TcpStream>,
    closed: bool,
}

/// The server; it ends when this is dropped.
pub struct SecutoolsServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl SecutoolsServer {
    /// Starts a server on a free port of 127.0.0.1.
    pub fn start() -> SecutoolsServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let acceptor = thread::spawn(move || accept(&listener, &shared));
        SecutoolsServer { address, state, acceptor: Some(acceptor) }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers 401 to every request without this API key.
    pub fn expect_key(&self, key: &str) {
        self.state().expected_key = Some(key.to_owned());
    }

    /// What happens to the next requests, one step each.
    pub fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.state().steps.extend(steps);
    }

    /// What happens to requests for which there is no step.
    pub fn otherwise(&self, step: Step) {
        self.state().otherwise = Some(step);
    }

    /// The ids of the next jobs; after them `job-1`, `job-2` …
    pub fn ids<'a>(&self, ids: impl IntoIterator<Item = &'a str>) {
        self.state().ids.extend(ids.into_iter().map(str::to_owned));
    }

    /// Lets every job succeed at its `polls`th poll. `cost` is JSON of any form.
    pub fn auto_finish(&self, polls: usize, output: &str, cost: Value) {
        let output = output.to_owned();
        self.state().auto_finish = Some(AutoFinish { polls, output, cost });
    }

    /// Lets a job succeed. `cost` is JSON of any form.
    pub fn finish(&self, id: &str, output: &str, cost: &Value) {
        self.merge(id, &json!({"status": "succeeded", "result": {"output": output, "cost": cost}}));
    }

    /// Lets a job fail.
    pub fn fail(&self, id: &str, title: &str, detail: &str) {
        self.merge(id, &json!({"status": "failed", "error": {"title": title, "detail": detail}}));
    }

    /// Replaces fields of what is answered about a job.
    pub fn merge(&self, id: &str, fields: &Value) {
        let mut state = self.state();
        let job = state.job(id).expect("no such job");
        for (name, value) in fields.as_object().unwrap() {
            job.answer[name] = value.clone();
        }
    }

    /// Forgets a job: from now on it is unknown.
    pub fn forget(&self, id: &str) {
        self.state().jobs.retain(|job| job.id != id);
    }

    /// The distinct jobs, in the order in which they were made.
    pub fn jobs(&self) -> Vec<StandInJob> {
        self.state().jobs.clone()
    }

    /// Every request that was read, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// How many connections have been made.
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for SecutoolsServer {
    fn drop(&mut self) {
        {
            let mut state = self.state();
            state.closed = true;
            for stream in state.open.values() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl State {
    fn job(&mut self, id: &str) -> Option<&mut StandInJob> {
        self.jobs.iter_mut().find(|job| job.id == id)
    }

    fn next_step(&mut self) -> Step {
        let step = self.steps.pop_front().or_else(|| self.otherwise.clone());
        step.unwrap_or(Step::Behave)
    }

    /// What secutools would answer.
    fn behave(&mut self, request: &Request) -> Answer {
        if let Some(key) = &self.expected_key
            && request.header("authorization") != Some(&format!("Bearer {key}"))
        {
            return Answer::problem(401, "Unauthorized", "unknown API key");
        }
        match (request.method.as_str(), request.path.strip_prefix("/v1/jobs")) {
            ("POST", Some("")) => self.create(request),
            ("POST", Some(rest)) if rest.ends_with("/cancel") => self.cancel(rest),
            ("GET", Some(rest)) => self.tell(rest.trim_start_matches('/')),
            _ => Answer::problem(404, "Not Found", &request.path),
        }
    }

    fn create(&mut self, request: &Request) -> Answer {
        let Some(key) = request.header("idempotency-key").map(str::to_owned) else {
            return Answer::problem(400, "Bad Request", "no Idempotency-Key");
        };
        let Ok(asked) = serde_json::from_slice::<Value>(&request.body) else {
            return Answer::problem(400, "Bad Request", "the body is no JSON");
        };
        if let Some(known) = self.jobs.iter().find(|job| job.key == key) {
            return match known.body == request.body {
                true => Answer::json(200, &known.answer),
                false => Answer::problem(422, "Unprocessable", "this key had another body"),
            };
        }
        let number = self.jobs.len() + 1;
        let id = self.ids.pop_front().unwrap_or_else(|| format!("job-{number}"));
        let answer = json!({"id": id, "status": "queued", "provider": asked["provider"]});
        let body = request.body.clone();
        self.jobs.push(StandInJob { id, key, body, polls: 0, answer: answer.clone() });
        Answer::json(202, &answer)
    }

    /// `rest` is `/ID/cancel`.
    fn cancel(&mut self, rest: &str) -> Answer {
        let id = rest.trim_start_matches('/').trim_end_matches("/cancel");
        match self.job(id) {
            None => Answer::problem(404, "Not Found", "no such job"),
            Some(job) if job.answer["status"] == "succeeded" => {
                Answer::problem(409, "Conflict", "the job has ended")
            }
            Some(job) => {
                job.answer["status"] = "cancelled".into();
                Answer::json(200, &job.answer)
            }
        }
    }

    fn tell(&mut self, id: &str) -> Answer {
        let auto = self.auto_finish.clone();
        let Some(job) = self.job(id) else {
            return Answer::problem(404, "Not Found", "no such job");
        };
        job.polls += 1;
        if let Some(auto) = auto.filter(|auto| job.polls >= auto.polls) {
            job.answer["status"] = "succeeded".into();
            job.answer["result"] = json!({"output": auto.output, "cost": auto.cost});
        }
        Answer::json(200, &job.answer)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Mutex<State>>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let mut state = shared.lock().unwrap();
        if state.closed {
            return;
        }
        state.connections += 1;
        let number = state.connections;
        state.open.insert(number, stream.try_clone().unwrap());
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let _ = serve(&stream, number, &shared);
            shared.lock().unwrap().open.remove(&number);
        });
    }
}

/// Serves one connection until either side has had enough.
fn serve(stream: &TcpStream, number: usize, shared: &Mutex<State>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        if reader.buffer().is_empty() && stream.peek(&mut [0])? == 0 {
            return Ok(());
        }
        let step = shared.lock().unwrap().next_step();
        if matches!(step, Step::DropUnread) {
            return Ok(());
        }
        let request = read_request(&mut reader, number)?;
        shared.lock().unwrap().requests.push(request.clone());
        if !perform(&step, &request, stream, shared)? {
            return stream.shutdown(Shutdown::Both);
        }
    }
}

/// Carries out one step; `false`: the connection is to be closed.
fn perform(
    step: &Step,
    request: &Request,
    mut stream: &TcpStream,
    shared: &Mutex<State>,
) -> std::io::Result<bool> {
    let behave = || shared.lock().unwrap().behave(request);
    let (bytes, stays) = match step {
        Step::Behave => (behave().bytes(), true),
        Step::BehaveAndClose => (behave().header("Connection", "close").bytes(), false),
        Step::BehaveAndVanish => (behave().bytes(), false),
        Step::HalfHead => (behave().bytes()[..20].to_vec(), false),
        Step::HalfBody => {
            let mut bytes = behave().bytes();
            bytes.truncate(bytes.len() - 3);
            (bytes, false)
        }
        Step::DropUnread => (Vec::new(), false),
        Step::DropRead { create } => {
            create.then(behave);
            (Vec::new(), false)
        }
        Step::Silence { create } => {
            create.then(behave);
            wait_for_the_end(stream);
            (Vec::new(), false)
        }
        Step::Drip => {
            behave();
            drip(stream)?;
            (Vec::new(), false)
        }
        Step::Say(answer) => (answer.bytes(), true),
        Step::CreateAndSay(answer) => {
            behave();
            (answer.bytes(), true)
        }
        Step::Raw(bytes) => (bytes.clone(), false),
        Step::Echo(status) => {
            let body = format!("what is this: {:?}", request.headers);
            (Answer::new(*status, body).bytes(), true)
        }
    };
    stream.write_all(&bytes)?;
    Ok(stays)
}

/// Sends an answer a byte at a time until the client has had enough.
fn drip(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000000\r\n\r\n")?;
    loop {
        stream.write_all(b" ")?;
        thread::sleep(Duration::from_millis(20));
    }
}

/// Returns when the client has closed the connection, or the server ends.
fn wait_for_the_end(mut stream: &TcpStream) {
    let mut buffer = [0; 1024];
    while matches!(stream.read(&mut buffer), Ok(1..)) {}
}
