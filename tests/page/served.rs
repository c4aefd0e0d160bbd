//! What systemd's socket does, without systemd: one `ccl http` for each connection.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::support::Sandbox;

/// Listens on this machine; every `ccl` that it has started has ended when it is dropped.
pub(crate) struct Served {
    address: SocketAddr,
    started: Arc<Mutex<Vec<Child>>>,
    listener: Option<JoinHandle<()>>,
}

impl Served {
    pub(crate) fn start(sandbox: &Sandbox) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let started: Arc<Mutex<Vec<Child>>> = Arc::default();
        let children = Arc::clone(&started);
        let spawn = spawner(sandbox);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // The end is asked for by a connection that has ended already.
                if stream.peer_addr().is_err() || is_over(&stream) {
                    return;
                }
                // Under the lock: a client that has its answer finds its `ccl` in `exits`.
                let mut children = children.lock().unwrap();
                children.push(spawn(stream).expect("ccl starts"));
            }
        });
        Self { address, started, listener: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.port())
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// Waits until every `ccl` has ended, and returns how: each exit code.
    pub(crate) fn exits(&self) -> Vec<Option<i32>> {
        let mut children = self.started.lock().unwrap();
        children.drain(..).map(|mut child| child.wait().unwrap().code()).collect()
    }
}

/// The word that ends the listener.
const END: &[u8] = b"\0end";

fn is_over(stream: &TcpStream) -> bool {
    let mut beginning = [0; END.len()];
    stream.set_read_timeout(Some(std::time::Duration::from_millis(1))).unwrap();
    let is_end = matches!(stream.peek(&mut beginning), Ok(length) if beginning[..length] == *END);
    stream.set_read_timeout(None).unwrap();
    is_end
}

fn spawner(sandbox: &Sandbox) -> impl Fn(TcpStream) -> io::Result<Child> + use<> {
    let template = sandbox.std_ccl();
    let config = sandbox.config_file();
    let program = template.get_program().to_owned();
    let environment: Vec<_> = template
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    let directory = sandbox.path().to_owned();
    let log = File::options().append(true).create(true).open(directory.join("tmp/http.log"));
    let log = log.unwrap();
    move |stream| {
        let input = OwnedFd::from(stream);
        let output = input.try_clone()?;
        std::process::Command::new(&program)
            .arg("--config")
            .arg(&config)
            .arg("http")
            .env_clear()
            .envs(environment.iter().cloned())
            .current_dir(&directory)
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(log.try_clone()?))
            .spawn()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        use std::io::Write;
        // The listener reads it without waiting, so it has to be there.
        while let Some(thread) = &self.listener
            && !thread.is_finished()
        {
            if let Ok(mut stream) = TcpStream::connect(self.address) {
                let _ = stream.write_all(END);
            }
            thread::yield_now();
        }
        if let Some(thread) = self.listener.take() {
            let _ = thread.join();
        }
        for mut child in self.started.lock().unwrap().drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
