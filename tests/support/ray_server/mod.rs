//! A stand-in for the Jobs API of a Ray head over real TCP: its five answers, as measured on 2.60. Jobs are run only when
//! the test says so, with the real shell in a made-up worker.
// Each user of this module uses only a part of it, and a stand-in that fails ends its test.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};

use super::secutools_server::read_request;
pub use super::secutools_server::{Answer, Request, Step};

/// A job as Ray knows it.
#[derive(Debug, Clone)]
pub struct RayJob {
    pub status: String,
    pub error_type: Option<String>,
    pub message: String,
    /// The body of the submission.
    pub body: Value,
}

impl RayJob {
    pub fn entrypoint(&self) -> String {
        self.body["entrypoint"].as_str().unwrap().to_owned()
    }
}

#[derive(Default)]
struct State {
    steps: VecDeque<Step>,
    otherwise: Option<Step>,
    requests: Vec<Request>,
    jobs: BTreeMap<String, RayJob>,
    /// How often each id was taken.
    taken: BTreeMap<String, usize>,
    /// Jobs are run as soon as they are submitted.
    runs: Option<Worker>,
    running: BTreeMap<String, i32>,
    token: Option<String>,
    open: Vec<TcpStream>,
    closed: bool,
}

/// Where jobs run: the environment of a node, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    pub env: BTreeMap<OsString, OsString>,
    pub directory: PathBuf,
}

impl Worker {
    /// The entrypoint as Ray runs it, in a process group of its own.
    pub fn command(&self, entrypoint: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", entrypoint]).current_dir(&self.directory).process_group(0);
        command.env_clear().envs(&self.env);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

/// The server; it ends when this is dropped, with all that it runs.
pub struct RayServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl RayServer {
    pub fn start() -> RayServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let acceptor = thread::spawn(move || accept(&listener, &shared));
        RayServer { address, state, acceptor: Some(acceptor) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers 401 or 403 to every request without this token.
    pub fn expect_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    /// From now on jobs are run as soon as they are submitted.
    pub fn run_jobs(&self, worker: Worker) {
        self.state().runs = Some(worker);
    }

    /// From now on jobs that are submitted wait.
    pub fn hold_jobs(&self) {
        self.state().runs = None;
    }

    /// What happens to the next requests, one step each.
    pub fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.state().steps.extend(steps);
    }

    /// What happens to requests for which there is no step.
    pub fn otherwise(&self, step: Step) {
        self.state().otherwise = Some(step);
    }

    /// Sets what Ray says of a job.
    pub fn set(&self, id: &str, status: &str, error_type: Option<&str>) {
        let mut state = self.state();
        let job = state.jobs.get_mut(id).expect("no such job");
        job.status = status.to_owned();
        job.error_type = error_type.map(str::to_owned);
        job.message = format!("this job is {status}");
    }

    /// What a head that is started again without Redis knows: nothing.
    pub fn forget_all(&self) {
        self.state().jobs.clear();
    }

    pub fn jobs(&self) -> BTreeMap<String, RayJob> {
        self.state().jobs.clone()
    }

    /// The one job that there is.
    pub fn only_job(&self) -> (String, RayJob) {
        let jobs = self.jobs();
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs.into_iter().next().unwrap()
    }

    /// How often each id was taken: more than once only where it was forgotten in between.
    pub fn taken(&self) -> BTreeMap<String, usize> {
        self.state().taken.clone()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// Whether a job's entrypoint is being run.
    pub fn is_running(&self) -> bool {
        !self.state().running.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for RayServer {
    fn drop(&mut self) {
        {
            let mut state = self.state();
            state.closed = true;
            state.open.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
            state.running.values().for_each(|pid| kill_group(*pid));
        }
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Ends a job's whole process group.
pub fn kill_group(leader: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(leader) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Mutex<State>>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let mut state = shared.lock().unwrap();
        if state.closed {
            return;
        }
        state.open.push(stream.try_clone().unwrap());
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let _ = serve(&stream, &shared);
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

fn serve(stream: &TcpStream, shared: &Arc<Mutex<State>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        if reader.buffer().is_empty() && stream.peek(&mut [0])? == 0 {
            return Ok(());
        }
        let request = read_request(&mut reader, 0)?;
        let step = {
            let mut state = shared.lock().unwrap();
            state.requests.push(request.clone());
            let step = state.steps.pop_front().or_else(|| state.otherwise.clone());
            step.unwrap_or(Step::Behave)
        };
        let answer = match step {
            Step::Behave => behave(shared, &request),
            Step::Say(answer) => answer,
            Step::DropRead { create } => {
                create.then(|| behave(shared, &request));
                return Ok(());
            }
            Step::Silence { create } => {
                create.then(|| behave(shared, &request));
                let mut stream = stream;
                while matches!(stream.read(&mut [0; 1024]), Ok(1..)) {}
                return Ok(());
            }
            other => panic!("Ray does not do {other:?}"),
        };
        let mut stream = stream;
        stream.write_all(&answer.bytes())?;
    }
}

/// What Ray would answer.
fn behave(shared: &Arc<Mutex<State>>, request: &Request) -> Answer {
    let mut state = shared.lock().unwrap();
    if let Some(token) = &state.token {
        match request.header("authorization") {
            None => return Answer::new(401, "Unauthorized: Missing authentication token"),
            Some(given) if given != format!("Bearer {token}") => {
                return Answer::new(403, "Forbidden: Invalid authentication token");
            }
            Some(_) => {}
        }
    }
    let path = request.path.as_str();
    match (request.method.as_str(), path.strip_prefix("/api/jobs/")) {
        ("GET", None) if path == "/api/version" => {
            Answer::json(200, &json!({"version": "4", "ray_version": "2.60.0"}))
        }
        ("POST", Some("")) => create(&mut state, shared, request),
        ("POST", Some(rest)) if rest.ends_with("/stop") => {
            let id = rest.trim_end_matches("/stop").to_owned();
            if let Some(pid) = state.running.get(&id) {
                kill_group(*pid);
            }
            match state.jobs.get_mut(&id) {
                None => Answer::new(404, format!("Job {id} does not exist")),
                Some(job) => {
                    job.status = "STOPPED".to_owned();
                    job.message = "Job was intentionally stopped.".to_owned();
                    Answer::json(200, &json!({"stopped": true}))
                }
            }
        }
        ("GET", Some(id)) => match state.jobs.get(id) {
            None => Answer::new(404, format!("Job {id} does not exist")),
            Some(job) => Answer::json(
                200,
                &json!({"type": "SUBMISSION", "job_id": null, "submission_id": id, "status": job.status,
                        "entrypoint": job.entrypoint(), "message": job.message, "error_type": job.error_type}),
            ),
        },
        _ => Answer::new(404, "404: Not Found"),
    }
}

fn create(state: &mut State, shared: &Arc<Mutex<State>>, request: &Request) -> Answer {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return Answer::new(400, "Traceback: no JSON");
    };
    let id = body["submission_id"].as_str().unwrap().to_owned();
    if state.jobs.contains_key(&id) {
        let text = format!(
            "Traceback (most recent call last):\nRuntimeError: Request failed with status code 400: ValueError: Job with \
             submission_id {id} already exists. Please use a different submission_id."
        );
        return Answer::new(500, text);
    }
    let job = RayJob {
        status: "PENDING".to_owned(),
        error_type: None,
        message: "Job has not started yet.".to_owned(),
        body,
    };
    if let Some(worker) = state.runs.clone() {
        let child = worker.command(&job.entrypoint()).spawn().unwrap();
        state.running.insert(id.clone(), i32::try_from(child.id()).unwrap());
        let (id, shared) = (id.clone(), Arc::clone(shared));
        thread::spawn(move || wait(child, &id, &shared));
    }
    state.jobs.insert(id.clone(), job);
    *state.taken.entry(id.clone()).or_default() += 1;
    Answer::json(200, &json!({"job_id": id, "submission_id": id}))
}

/// Waits for a job's entrypoint, and notes how it ended.
fn wait(child: Child, id: &str, shared: &Mutex<State>) {
    if let Some(job) = shared.lock().unwrap().jobs.get_mut(id) {
        job.status = "RUNNING".to_owned();
    }
    let output = child.wait_with_output().unwrap();
    let mut state = shared.lock().unwrap();
    state.running.remove(id);
    let Some(job) = state.jobs.get_mut(id).filter(|job| job.status != "STOPPED") else { return };
    job.status = if output.status.success() { "SUCCEEDED" } else { "FAILED" }.to_owned();
    job.message = format!(
        "Job entrypoint command failed with exit code {:?}, last available logs:\n{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A worker with the machine's PATH and a home of its own.
pub fn worker(directory: &Path) -> Worker {
    let env = [
        ("PATH", std::env::var_os("PATH").unwrap()),
        ("HOME", directory.into()),
        ("TMPDIR", directory.into()),
        ("RAY_AUTH_TOKEN", "t0ken-of-ray".into()),
        ("GIT_CONFIG_NOSYSTEM", "1".into()),
    ];
    Worker {
        env: env.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        directory: directory.to_owned(),
    }
}
