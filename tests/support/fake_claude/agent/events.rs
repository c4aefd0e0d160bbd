//! What the agent waits for.

use std::io::{Read, stdin};
use std::sync::mpsc::Sender;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;

/// Something happened.
pub enum Event {
    /// From the terminal.
    Bytes(Vec<u8>),
    /// SIGTERM, SIGHUP or SIGWINCH.
    Signal(i32),
    /// The terminal is gone.
    Hangup,
    /// The turn's command, or its hooks, have run.
    JobDone,
}

/// Reads the terminal and the signals, each in a thread of its own.
pub fn listen(sender: Sender<Event>) {
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGWINCH]).expect("signal handlers");
    let to = sender.clone();
    thread::spawn(move || {
        for signal in &mut signals {
            to.send(Event::Signal(signal)).expect("the agent listens");
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = stdin().read(&mut buffer) {
            let bytes = buffer[..count].to_vec();
            sender.send(Event::Bytes(bytes)).expect("the agent listens");
        }
        sender.send(Event::Hangup)
    });
}
