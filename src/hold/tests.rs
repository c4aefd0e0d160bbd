use std::fs;

use super::choice::Choice;
use super::*;
use crate::config::tests::Home;

const AGENTS: &str = "
agents:
  claude: {}
  key: {env: {WHOSE: mine}, fallback_model: sonnet}
  codex: {kind: command, command: [codex, exec], limit: usage limit}
failover: [claude, key, secutools, codex]
";

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
}

fn trigger(cause: HoldCause, started: i64) -> HoldTrigger<'static> {
    HoldTrigger {
        run: Uuid::new_v4(),
        started_at: at(started),
        cause,
        model: None,
        resets_at: None,
        reason: "the limit",
    }
}

const SONNET: Wanted<'static> = Wanted { task: "/p/a.md", agent: None, model: "sonnet" };

fn probe(run: Uuid, session: &str, minute: i64) -> Probe {
    Probe { run, session: session.to_owned(), task: "/p/a.md".to_owned(), since: at(minute) }
}

/// Notes that a session is at work on the run.
fn at_work(config: &Config, session: &str, run: Uuid) {
    let stamp = Stamp::new(&config.host, at(0));
    let marker =
        Dispatched { stamp, project: PathBuf::new(), task: "a.md".to_owned(), run, pane: None };
    let path = config.state_dir.join(format!("sessions/{session}.dispatched"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    marker::write(&path, &marker).unwrap();
}

/// Who has a task now: `claude`, `claude?` for a probe, `-` for none.
fn who(holds: &Holds<'_>, wanted: Wanted<'_>) -> String {
    match holds.lineup().choose(wanted) {
        Choice::Agent { agent, model, is_probe, .. } => {
            let model = model.filter(|model| model != wanted.model);
            let model = model.map_or_else(String::new, |model| format!(":{model}"));
            format!("{}{model}{}", agent.name, if is_probe { "?" } else { "" })
        }
        Choice::Wait(_) => "-".to_owned(),
        Choice::Last(_) => "last".to_owned(),
    }
}

#[test]
fn a_hold_begins_once_and_is_waited_for_longer_each_time() {
    let config = Home::new().load();
    let begin = |minute, trigger: &HoldTrigger<'_>| {
        let hold = Holds::new(&config, at(minute)).begin("claude", trigger, |_| Ok(())).unwrap();
        hold.map(|hold| (hold.until.duration_since(at(minute)).as_mins(), hold.tries))
    };
    assert_eq!(begin(0, &trigger(HoldCause::Limit, -9)), Some((5, 1)));
    // Four more sessions run into the same one; a pass that had begun later has sent the last one before it was held.
    for started in [-8, -1, 0, 1] {
        assert_eq!(begin(2, &trigger(HoldCause::Limit, started)), None);
    }
    // Each of these was let go after that.
    let mut minute = 10;
    for (minutes, tries) in [(10, 2), (20, 3), (40, 4), (60, 5), (60, 6)] {
        let after = trigger(HoldCause::Limit, minute);
        assert_eq!(begin(minute + 1, &after), Some((minutes, tries)));
        minute += 100;
    }
    for (minutes, tries) in [(1, 1), (2, 2), (4, 3), (8, 4), (15, 5), (15, 6)] {
        let outage = trigger(HoldCause::Outage, minute);
        assert_eq!(begin(minute + 1, &outage), Some((minutes, tries)));
        minute += 100;
    }
    assert_eq!(begin(minute, &trigger(HoldCause::Account, minute - 1)), Some((60, 1)));
    let reset = |minute| HoldTrigger {
        resets_at: Some(at(minute + 90)),
        ..trigger(HoldCause::Limit, minute - 1)
    };
    assert_eq!(begin(minute, &reset(minute)), None, "a login that is not valid is graver");
    minute += 100;
    assert_eq!(begin(minute, &reset(minute)), Some((91, 1)));
    // Of a run that was at work before: it is reset later than an outage ends, and the other way round.
    assert_eq!(begin(minute + 1, &trigger(HoldCause::Outage, minute - 9)), None);
    let holds = Holds::new(&config, at(minute));
    holds.lift("claude").unwrap();
    assert_eq!(begin(minute, &trigger(HoldCause::Outage, minute - 1)), Some((1, 1)));
    assert_eq!(begin(minute, &reset(minute)), Some((91, 1)));
}

#[test]
fn one_probe_finds_out_whether_a_hold_has_ended() {
    let home = Home::new();
    let config = home.load();
    let session = |run: Uuid| at_work(&config, "k-0", run);
    let agent = config.agents.first();
    let holds = |minute| Holds::new(&config, at(minute));
    let begin_probe = |minute, run, session| {
        holds(minute).begin_probe(agent, Some("sonnet"), probe(run, session, minute))
    };
    let first = trigger(HoldCause::Limit, -1);
    holds(0).begin("claude", &first, |_| Ok(())).unwrap();
    assert_eq!(who(&holds(4), SONNET), "-");
    assert_eq!(who(&holds(5), SONNET), "claude?");
    let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(!begin_probe(4, one, "k-0").unwrap());
    session(one);
    assert!(begin_probe(5, one, "k-0").unwrap());
    assert_eq!(who(&holds(6), SONNET), "-");
    assert!(!begin_probe(6, other, "k-1").unwrap());
    assert!(!holds(6).end("claude", other).unwrap());
    // It was killed: its session has another run by now.
    session(other);
    assert_eq!(who(&holds(7), SONNET), "claude?");
    assert!(begin_probe(7, other, "k-0").unwrap());
    // The limit is met once more.
    let again = HoldTrigger { run: other, ..trigger(HoldCause::Limit, 7) };
    let hold = holds(8).begin("claude", &again, |_| Ok(())).unwrap().unwrap();
    assert_eq!((hold.tries, hold.since, hold.probe), (2, at(0), None));
    assert_eq!(who(&holds(17), SONNET), "-");
    session(one);
    assert!(begin_probe(18, one, "k-0").unwrap());
    assert!(holds(19).end("claude", one).unwrap());
    assert_eq!(who(&holds(19), SONNET), "claude");
}

#[test]
fn a_clock_that_was_set_back_holds_nobody_for_ever() {
    let config = Home::new().load();
    Holds::new(&config, at(1000))
        .begin("claude", &trigger(HoldCause::Account, 999), |_| Ok(()))
        .unwrap();
    assert_eq!(who(&Holds::new(&config, at(998)), SONNET), "-");
    assert_eq!(who(&Holds::new(&config, at(0)), SONNET), "claude?");
}

#[test]
fn the_next_of_failover_has_what_is_not_waited_for() {
    let config = Home::with(AGENTS).load();
    let holds = |minute| Holds::new(&config, at(minute));
    let to_secutools = |minute| holds(minute).lineup().goes_to_secutools(SONNET);
    let codex = Wanted { agent: Some("codex"), ..SONNET };
    assert_eq!(who(&holds(0), SONNET), "claude");
    assert_eq!(who(&holds(0), codex), "codex");
    assert_eq!(who(&holds(0), Wanted { agent: Some("nobody"), ..SONNET }), "claude");
    // A known reset that is near is waited for, an unknown one is not.
    let near = HoldTrigger { resets_at: Some(at(14)), ..trigger(HoldCause::Limit, -1) };
    holds(0).begin("claude", &near, |_| Ok(())).unwrap();
    assert_eq!(who(&holds(0), SONNET), "-");
    // How near that is, is a person's word.
    for (most, expected) in [("13m", "key"), ("15m", "-"), ("2h", "-")] {
        let text = format!("{AGENTS}reset_further_than: {most}\n");
        let other = Home::with(&text).load();
        Holds::new(&other, at(0)).begin("claude", &near, |_| Ok(())).unwrap();
        assert_eq!(who(&Holds::new(&other, at(0)), SONNET), expected, "{most}");
    }
    holds(0).lift("claude").unwrap();
    holds(0).begin("claude", &trigger(HoldCause::Limit, -1), |_| Ok(())).unwrap();
    assert_eq!(who(&holds(0), SONNET), "key");
    assert_eq!(who(&holds(0), Wanted { agent: Some("claude"), ..SONNET }), "-");
    assert!(!to_secutools(0));
    // Of an outage the first two tries are waited for.
    for (minute, expected) in [(0, "-"), (10, "-"), (20, "codex")] {
        holds(minute).begin("key", &trigger(HoldCause::Outage, minute), |_| Ok(())).unwrap();
        holds(minute).begin("claude", &trigger(HoldCause::Limit, minute), |_| Ok(())).unwrap();
        assert_eq!(who(&holds(minute), SONNET), expected, "{minute}");
        assert_eq!(to_secutools(minute), expected == "codex");
    }
}

#[test]
fn a_limit_of_one_model_leaves_the_others() {
    let config = Home::with(AGENTS).load();
    let holds = Holds::new(&config, at(0));
    let opus = HoldTrigger { model: Some("opus"), ..trigger(HoldCause::Limit, -1) };
    holds.begin("key", &opus, |_| Ok(())).unwrap();
    holds.begin("claude", &opus, |_| Ok(())).unwrap();
    let of = |agent, model| Wanted { agent: Some(agent), model, ..SONNET };
    assert_eq!(who(&holds, of("claude", "opus")), "-");
    assert_eq!(who(&holds, of("claude", "sonnet")), "claude");
    assert_eq!(who(&holds, of("key", "opus")), "key:sonnet");
    assert_eq!(who(&holds, of("key", "us.anthropic.Claude-Opus-4-5")), "key:sonnet");
    // Once its time has come, a task finds out whether that has ended, and the others use the other model meanwhile.
    let later = Holds::new(&config, at(5));
    assert_eq!(who(&later, of("key", "opus")), "key?");
    let run = Uuid::new_v4();
    at_work(&config, "k-0", run);
    let key = config.agents.named("key").unwrap();
    assert!(later.begin_probe(key, Some("opus"), probe(run, "k-0", 5)).unwrap());
    assert_eq!(who(&later, of("key", "opus")), "key:sonnet");
    // Both models are at their limit: each has a hold of its own.
    let sonnet = HoldTrigger { model: Some("sonnet"), ..trigger(HoldCause::Limit, 4) };
    assert!(later.begin("key", &sonnet, |_| Ok(())).unwrap().is_some());
    assert_eq!(who(&later, of("key", "opus")), "-");
    assert_eq!(who(&later, of("key", "sonnet")), "-");
    assert_eq!(who(&later, of("key", "haiku")), "key");
    assert!(later.end("key", run).unwrap());
    assert_eq!(who(&later, of("key", "opus")), "key");
    // The account's own limit is another one.
    later.begin("key", &trigger(HoldCause::Limit, 4), |_| Ok(())).unwrap();
    assert_eq!(who(&later, of("key", "haiku")), "-");
    assert!(later.lift("key").unwrap());
    assert_eq!(who(&later, of("key", "sonnet")), "key");
}

#[test]
fn a_task_that_was_a_probe_in_vain_goes_behind_the_others() {
    let config = Home::new().load();
    let holds = |minute| Holds::new(&config, at(minute));
    let agent = config.agents.first();
    holds(0).begin("claude", &trigger(HoldCause::Limit, -1), |_| Ok(())).unwrap();
    let run = Uuid::new_v4();
    at_work(&config, "k-0", run);
    assert!(holds(5).begin_probe(agent, Some("sonnet"), probe(run, "k-0", 5)).unwrap());
    let again = HoldTrigger { run, ..trigger(HoldCause::Limit, 5) };
    let hold = holds(6).begin("claude", &again, |_| Ok(())).unwrap().unwrap();
    assert_eq!(hold.refused, ["/p/a.md"]);
    let other = Wanted { task: "/p/b.md", ..SONNET };
    assert_eq!(who(&holds(16), other), "claude?");
    assert_eq!(who(&holds(16), SONNET), "last");
    let mut lineup = holds(16).lineup();
    lineup.take_last();
    assert!(matches!(lineup.choose(SONNET), Choice::Agent { is_probe: true, .. }));
}

#[test]
fn a_probe_that_hangs_is_not_waited_for_longer_than_a_reset() {
    let config = Home::with(AGENTS).load();
    let holds = |minute| Holds::new(&config, at(minute));
    let near = HoldTrigger { resets_at: Some(at(1)), ..trigger(HoldCause::Limit, -1) };
    holds(0).begin("claude", &near, |_| Ok(())).unwrap();
    let run = Uuid::new_v4();
    at_work(&config, "k-0", run);
    let agent = config.agents.first();
    assert!(holds(2).begin_probe(agent, Some("sonnet"), probe(run, "k-0", 2)).unwrap());
    assert_eq!(who(&holds(17), SONNET), "-");
    assert_eq!(who(&holds(18), SONNET), "key");
}

#[test]
fn what_cannot_be_read_gets_no_task() {
    let home = Home::with(
        "agents: {key: {api_key_file: ~/key}, other: {env: {A: b}}}\nfailover: [key, other]\n",
    );
    let config = home.load();
    let holds = Holds::new(&config, at(0));
    assert_eq!(who(&holds, SONNET), "other");
    home.write("key", "sk-1");
    let private = |mode| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(home.path("key"), fs::Permissions::from_mode(mode)).unwrap();
    };
    private(0o644);
    assert_eq!(who(&holds, SONNET), "other");
    private(0o600);
    assert_eq!(who(&holds, SONNET), "key");
    fs::create_dir_all(config.state_dir.join("agents")).unwrap();
    fs::write(config.state_dir.join("agents/key.hold"), "{").unwrap();
    assert_eq!(who(&holds, SONNET), "other");
}
