//! A stand-in for journald's stream socket, `/run/systemd/journal/stdout`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use super::wait::{PATIENCE, wait_until};

/// What one program wrote.
#[derive(Debug, Default)]
struct Stream {
    /// `SyslogIdentifier=`, or the program's name; empty until it is known.
    identifier: String,
    lines: Vec<String>,
    has_ended: bool,
}

/// What services wrote.
#[derive(Debug)]
pub struct Journal {
    socket: PathBuf,
    streams: Arc<Mutex<Vec<Stream>>>,
}

impl Journal {
    /// Listens on a new socket for as long as the test runs.
    pub fn listen(socket: PathBuf) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let streams = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&streams);
        thread::spawn(move || {
            for (index, connection) in listener.incoming().flatten().enumerate() {
                shared.lock().unwrap().push(Stream::default());
                let streams = Arc::clone(&shared);
                thread::spawn(move || collect(connection, index, &streams));
            }
        });
        Self { socket, streams }
    }

    /// Everything that programs of this identifier wrote, once all of them have ended.
    #[track_caller]
    pub fn of(&self, identifier: &str) -> Vec<String> {
        // Whoever connected earlier is known when this stream is.
        let mark = uuid::Uuid::new_v4().to_string();
        let mut connection = UnixStream::connect(&self.socket).unwrap();
        connection.write_all(format!("{mark}\n").as_bytes()).unwrap();
        drop(connection);
        let all_read = || {
            let streams = self.streams.lock().unwrap();
            let is_read = |stream: &Stream| {
                stream.has_ended || ![identifier, ""].contains(&stream.identifier.as_str())
            };
            streams.iter().any(|stream| stream.identifier == mark) && streams.iter().all(is_read)
        };
        wait_until("the journal is complete", PATIENCE, all_read);
        let streams = self.streams.lock().unwrap();
        let wanted = streams.iter().filter(|stream| stream.identifier == identifier);
        wanted.flat_map(|stream| stream.lines.clone()).collect()
    }
}

/// The first of seven lines in front names the identifier, the others are settings; the rest is text.
fn collect(connection: UnixStream, index: usize, streams: &Mutex<Vec<Stream>>) {
    let lines = BufReader::new(connection).lines().map_while(Result::ok);
    for (number, line) in lines.enumerate() {
        let stream = &mut streams.lock().unwrap()[index];
        match number {
            0 => stream.identifier = line,
            1..=6 => {}
            _ => stream.lines.push(line),
        }
    }
    streams.lock().unwrap()[index].has_ended = true;
}
