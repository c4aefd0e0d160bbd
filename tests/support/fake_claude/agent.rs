//! What the agent does: dialogs, its turn, its end.

mod draw;
mod events;

use std::collections::VecDeque;
use std::process::{Stdio, exit};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};
use signal_hook::consts::{SIGTERM, SIGWINCH};

use self::events::{Event, listen};
use crate::dialog::{Choice, Dialog};
use crate::files::{Doing, Session};
use crate::keys::{self, Key};
use crate::launch::{Launch, shell};
use crate::script::{Behaviour, Ending, Screen, Turn};
use crate::terminal::{Terminal, put};

enum Mode {
    /// Before the composer.
    Start(Dialog),
    Idle,
    Busy(Turn, Instant),
    Running(Turn),
    Asking(Turn, Dialog),
    Hooks(Turn),
    Late(Turn, Instant),
}

/// The running program.
pub struct Agent {
    launch: Launch,
    behaviour: Behaviour,
    session: Session,
    terminal: Terminal,
    mode: Mode,
    screens: VecDeque<Screen>,
    said: Vec<String>,
    events: Receiver<Event>,
    sender: Sender<Event>,
}

impl Agent {
    /// With its terminal, before the first screen.
    pub fn new(launch: Launch, behaviour: Behaviour, session: Session, terminal: Terminal) -> Self {
        let (sender, events) = channel();
        Self {
            screens: behaviour.screens.iter().copied().collect(),
            said: Vec::new(),
            mode: Mode::Idle,
            launch,
            behaviour,
            session,
            terminal,
            events,
            sender,
        }
    }

    /// Runs until something ends it.
    pub fn run(mut self) -> ! {
        listen(self.sender.clone());
        self.next_screen();
        loop {
            self.draw();
            let event = match self.deadline() {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    self.events.recv_timeout(left)
                }
            };
            match event {
                Ok(Event::Bytes(bytes)) => self.typed(&bytes),
                Ok(Event::Signal(SIGTERM)) => self.terminate(),
                Ok(Event::Signal(SIGWINCH)) => {}
                Ok(Event::Signal(_) | Event::Hangup) => self.quit(129, "hangup"),
                Ok(Event::JobDone) => self.job_done(),
                Err(_) => self.time_is_up(),
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.mode {
            Mode::Busy(Turn { end: Ending::Forever, .. }, _) => None,
            Mode::Busy(_, until) | Mode::Late(_, until) => Some(*until),
            _ => None,
        }
    }

    /// The next dialog of the start, or the composer with the prompt from the command line.
    fn next_screen(&mut self) {
        if let Some(screen) = self.screens.pop_front() {
            self.mode = Mode::Start(Dialog::new(screen, &self.session.cwd));
            return;
        }
        if !self.behaviour.old {
            self.terminal.use_alternate_screen();
        }
        self.session.status(Doing::Starting);
        self.mode = Mode::Idle;
        self.session.status(Doing::Idle);
        if let Some(prompt) = self.launch.prompt.take() {
            self.submit(&prompt);
        }
    }

    /// What somebody types: an answer to a dialog, or nothing that matters.
    fn typed(&mut self, bytes: &[u8]) {
        self.launch.log("keys", json!({"text": String::from_utf8_lossy(bytes)}));
        for key in keys::known(bytes) {
            let (Mode::Start(dialog) | Mode::Asking(_, dialog)) = &mut self.mode else {
                return;
            };
            match key {
                Key::Down => dialog.step_down(),
                Key::Enter => self.answered(),
            }
        }
    }

    /// The marked option was chosen.
    fn answered(&mut self) {
        match std::mem::replace(&mut self.mode, Mode::Idle) {
            Mode::Start(dialog) => match dialog.enter() {
                Choice::Stay => self.mode = Mode::Start(dialog),
                Choice::Exit => self.leave(1, "dialog", dialog.farewell()),
                Choice::Continue => self.next_screen(),
            },
            Mode::Asking(turn, _) => {
                self.session.status(Doing::Busy);
                self.done(turn);
            }
            other => self.mode = other,
        }
    }

    fn submit(&mut self, prompt: &str) {
        self.launch.log("prompt", json!({"text": prompt, "session": self.session.id}));
        self.said.push(format!("❯ {}", prompt.replace('\n', "\n  ")));
        let turn = self.behaviour.turns.first().cloned().unwrap_or_default();
        self.session.user(prompt, Duration::from_millis(turn.prompt_late_ms));
        self.session.status(Doing::Busy);
        let until = Instant::now() + Duration::from_millis(turn.ms);
        self.mode = Mode::Busy(turn, until);
    }

    fn time_is_up(&mut self) {
        match std::mem::replace(&mut self.mode, Mode::Idle) {
            Mode::Busy(turn, _) if turn.run.is_empty() => self.end(turn),
            Mode::Busy(turn, _) => {
                let command = turn.run.clone();
                self.job(move || drop(shell(&command, Stdio::null()).wait()));
                self.mode = Mode::Running(turn);
            }
            Mode::Late(turn, _) => {
                self.session.assistant(&turn.says);
                self.after_turn(&turn);
            }
            other => self.mode = other,
        }
    }

    /// Runs `work` beside the terminal.
    fn job(&self, work: impl FnOnce() + Send + 'static) {
        let sender = self.sender.clone();
        thread::spawn(move || {
            work();
            sender.send(Event::JobDone)
        });
    }

    fn job_done(&mut self) {
        match std::mem::replace(&mut self.mode, Mode::Idle) {
            Mode::Running(turn) => self.end(turn),
            Mode::Hooks(turn) if turn.late_ms > 0 => {
                let until = Instant::now() + Duration::from_millis(turn.late_ms);
                self.mode = Mode::Late(turn, until);
            }
            Mode::Hooks(turn) => self.after_turn(&turn),
            other => self.mode = other,
        }
    }

    fn end(&mut self, turn: Turn) {
        match &turn.end {
            Ending::Done => self.done(turn),
            Ending::Error(kind) => {
                let text = self.session.api_error(kind, &turn.says);
                let mut payload = self.payload();
                payload["error"] = json!(self.session.error_word(kind));
                payload["last_assistant_message"] = json!(text);
                self.said.push(format!("  ⎿  {text}"));
                self.hooks("StopFailure", &payload, Turn { late_ms: 0, ..turn });
            }
            Ending::Crash => {
                self.launch.log("exit", json!({"why": "crash"}));
                let _ = kill_process(getpid(), Signal::KILL);
            }
            Ending::Exit(code) => self.quit(*code, "exit"),
            Ending::Forever => self.mode = Mode::Busy(turn, Instant::now()),
            Ending::Ask(screen) => {
                let dialog = Dialog::new(*screen, &self.session.cwd);
                self.session.status(Doing::Waiting(dialog.waiting_for()));
                self.mode = Mode::Asking(turn, dialog);
            }
            Ending::Interrupted => self.interrupted(),
        }
    }

    fn done(&mut self, turn: Turn) {
        self.said.push(format!("● {}", turn.says));
        if turn.late_ms == 0 {
            self.session.assistant(&turn.says);
        }
        let mut payload = self.payload();
        payload["stop_hook_active"] = json!(false);
        payload["permission_mode"] = json!("bypassPermissions");
        payload["last_assistant_message"] = json!(turn.says);
        if !self.behaviour.old {
            let tasks = turn.background.iter().enumerate().map(|(i, command)| {
                json!({"id": format!("b{i}"), "type": "shell", "status": "running",
                       "description": "Run it", "command": command})
            });
            payload["background_tasks"] = tasks.collect();
        }
        self.hooks("Stop", &payload, turn);
    }

    fn payload(&self) -> Value {
        json!({"session_id": self.session.id, "transcript_path": self.session.transcript(),
               "cwd": self.session.cwd})
    }

    fn hooks(&mut self, event: &str, payload: &Value, turn: Turn) {
        let hooks = self.launch.run_hooks(event, payload);
        self.job(move || hooks.run());
        self.mode = Mode::Hooks(turn);
    }

    fn after_turn(&mut self, turn: &Turn) {
        for command in &turn.background {
            drop(shell(command, Stdio::null()));
        }
        self.session.status(match turn.background.is_empty() {
            true => Doing::Idle,
            false => Doing::Shell,
        });
        self.mode = Mode::Idle;
    }

    fn interrupted(&mut self) {
        self.said.pop();
        self.session.status(Doing::Idle);
        self.mode = Mode::Idle;
    }

    fn terminate(&mut self) {
        self.launch.log("sigterm", json!({"ignored": self.behaviour.ignore_sigterm}));
        if self.behaviour.ignore_sigterm {
            return;
        }
        thread::sleep(Duration::from_millis(self.behaviour.sigterm_delay_ms));
        self.quit(143, "other")
    }

    /// Ends as Claude Code does. At a dialog of its start there is no conversation to resume; in a
    /// directory that is not trusted no hook is run.
    fn quit(&mut self, code: u8, reason: &str) -> ! {
        let (hooks, hint) = match &self.mode {
            Mode::Start(dialog) => (!dialog.is_about_trust(), String::new()),
            _ => (
                true,
                format!("\nResume this session with:\nclaude --resume {}\n", self.session.id),
            ),
        };
        if hooks {
            let mut payload = self.payload();
            payload["reason"] = json!(reason);
            self.launch.run_hooks("SessionEnd", &payload).run();
        }
        self.session.close();
        self.leave(code, reason, &hint)
    }

    fn leave(&mut self, code: u8, why: &str, farewell: &str) -> ! {
        self.terminal.restore();
        put(farewell);
        self.launch.log("exit", json!({"code": code, "why": why}));
        exit(code.into())
    }
}
