//! The two ends of a connection, standard input and output, each with a deadline.
//!
//! Neither end is made non-blocking: a terminal or a pipe may be shared, and the flag would hold for all who use it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use super::Asked;
use super::request::MAX_HEAD;

/// A pipe that has room takes this many bytes at once (`PIPE_BUF`).
const PIECE: usize = 4096;
/// How many bytes a client may send beside its request before the connection is closed; they are thrown away.
const MAX_IGNORED: usize = 1 << 20;

/// What came of waiting for a request.
#[derive(Debug)]
pub(crate) enum Received {
    Asked(Asked),
    /// The input ended first, after this many bytes of the head.
    Broken(usize),
    /// The deadline came first.
    TooSlow,
}

/// A connection whose ends may be the same socket.
pub(crate) struct Connection<'a> {
    input: BorrowedFd<'a>,
    output: BorrowedFd<'a>,
    /// The time limit for the head to arrive, and again for the response to be taken.
    limit: Duration,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(input: &'a impl AsFd, output: &'a impl AsFd, limit: Duration) -> Self {
        Self { input: input.as_fd(), output: output.as_fd(), limit }
    }

    /// Reads until `examine` has a request, or knows why there is none.
    pub(crate) fn receive(&self, examine: impl Fn(&[u8]) -> Asked) -> io::Result<Received> {
        let deadline = Instant::now() + self.limit;
        let mut head = Vec::new();
        let mut piece = [0; MAX_HEAD];
        loop {
            if !wait(self.input, PollFlags::IN, deadline)? {
                return Ok(Received::TooSlow);
            }
            match rustix::io::read(self.input, &mut piece) {
                Ok(0) => return Ok(Received::Broken(head.len())),
                Ok(length) => head.extend_from_slice(&piece[..length]),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            match examine(&head) {
                Asked::Incomplete => {}
                asked => return Ok(Received::Asked(asked)),
            }
        }
    }

    /// Writes the response, and makes sure that it arrives. A client that is too slow is given up.
    pub(crate) fn answer(&self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + self.limit;
        while !bytes.is_empty() {
            if !wait(self.output, PollFlags::OUT, deadline)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match write_some(self.output, bytes) {
                Ok(length) => bytes = &bytes[length..],
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.linger(deadline)
    }

    /// Reads what else the client sends, until it has taken the response and closes. A socket that is closed with
    /// unread input takes back what was sent.
    fn linger(&self, deadline: Instant) -> io::Result<()> {
        if shutdown(self.output, Shutdown::Write).is_err() {
            // Not a socket, so nothing is taken back.
            return Ok(());
        }
        let mut piece = [0; MAX_HEAD];
        let mut ignored = 0;
        while ignored < MAX_IGNORED && wait(self.input, PollFlags::IN, deadline)? {
            match rustix::io::read(self.input, &mut piece) {
                Ok(0) => break,
                Ok(length) => ignored += length,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Writes as much as can be written without waiting. Only a socket has `DONTWAIT`: a pipe gets a piece for which it has
/// room.
fn write_some(output: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    match send(output, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Err(Errno::NOTSOCK) => rustix::io::write(output, &bytes[..bytes.len().min(PIECE)]),
        sent => sent,
    }
}

/// Whether something can be read or written by the deadline. If the other side has closed, that counts too: the read or
/// write then reports it.
fn wait(fd: BorrowedFd<'_>, flags: PollFlags, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    const LIMIT: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(200);

    fn until_a_dot(bytes: &[u8]) -> Asked {
        match bytes.contains(&b'.') {
            true => Asked::Refused(super::super::Refusal::new(400, format!("{}", bytes.len()))),
            false => Asked::Incomplete,
        }
    }

    #[test]
    fn a_head_may_come_in_pieces_and_only_the_whole_of_it_counts() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let connection = Connection::new(&server, &server, LIMIT);
        let writer = std::thread::spawn(move || {
            for piece in ["a", "bc", "d."] {
                client.write_all(piece.as_bytes()).unwrap();
            }
            client
        });
        let Received::Asked(Asked::Refused(refusal)) = connection.receive(until_a_dot).unwrap()
        else {
            panic!()
        };
        assert_eq!(refusal.detail, "5");
        writer.join().unwrap();
    }

    #[test]
    fn who_says_nothing_is_left_and_who_leaves_is_noticed() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"GET").unwrap();
        let connection = Connection::new(&server, &server, SHORT);
        assert!(matches!(connection.receive(until_a_dot).unwrap(), Received::TooSlow));
        client.write_all(b" /").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        // What has come is there at once, however busy the machine is.
        let patient = Connection::new(&server, &server, LIMIT);
        assert!(matches!(patient.receive(until_a_dot).unwrap(), Received::Broken(2)));
    }

    #[test]
    fn a_response_larger_than_the_sockets_buffers_is_taken_whole_or_given_up() {
        let large = vec![b'x'; 4 << 20];
        let (mut client, server) = UnixStream::pair().unwrap();
        let slow = Connection::new(&server, &server, SHORT).answer(&large);
        assert_eq!(slow.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(server);
        let mut taken = Vec::new();
        client.read_to_end(&mut taken).unwrap();
        let (mut client, server) = UnixStream::pair().unwrap();
        let reader = std::thread::spawn(move || {
            let mut taken = Vec::new();
            client.read_to_end(&mut taken).unwrap();
            taken.len()
        });
        Connection::new(&server, &server, LIMIT).answer(&large).unwrap();
        assert_eq!(reader.join().unwrap(), large.len());
    }

    #[test]
    fn a_pipe_does_as_well() {
        let (mut reader, writer) = io::pipe().unwrap();
        let (input, mut sender) = io::pipe().unwrap();
        sender.write_all(b"x.").unwrap();
        let connection = Connection::new(&input, &writer, LIMIT);
        assert!(matches!(connection.receive(until_a_dot).unwrap(), Received::Asked(_)));
        connection.answer(b"hello").unwrap();
        drop(writer);
        let mut taken = String::new();
        reader.read_to_string(&mut taken).unwrap();
        assert_eq!(taken, "hello");
    }
}
