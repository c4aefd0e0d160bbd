//! What the ref `run` of an exchange says. Pure.
//!
//! ```text
//! claim       parent base               {"version":1,"claim":"RANDOM","host","directory"}
//! result      parents claim and work    {"version":1,"exit","host","work","failed","check":{"exit","seconds"},
//!                                        "directory"}; output, errors, check in its tree
//! tombstone   parents base and claim     {"version":1,"tombstone","reason"}; the claim only where ccl has noted it
//! ```
//!
//! Anybody who reaches the exchange can write these commits, tombstones too. What is not consistent is not believed.

use serde::{Deserialize, Serialize};

/// The refs of one key.
pub(super) struct Refs {
    pub(super) base: String,
    pub(super) run: String,
}

impl Refs {
    pub(super) fn of(key: uuid::Uuid) -> Self {
        Self { base: format!("refs/ccl/{key}/base"), run: format!("refs/ccl/{key}/run") }
    }
}

/// What the commit that `run` names says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunCommit {
    /// A runner is at work.
    Claim(Workplace),
    Result(RunResult),
    /// `ccl` took the run away from its runners.
    Tombstone(Tombstone),
    /// None of these. The words are the end of a sentence, "its run … is".
    Foreign(&'static str),
}

/// Where a runner is at work, as it says itself; empty where it does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workplace {
    pub(super) host: String,
    pub(super) directory: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunResult {
    /// The agent's exit status. Where `failed` is set, the agent did not begin or was ended, and this is not 0.
    pub(super) exit: i32,
    /// Why the exit status is not the agent's own.
    pub(super) failed: Option<RunnerFailure>,
    pub(super) host: String,
    pub(super) check: Option<CheckResult>,
    /// The claim that it replaced.
    pub(super) claim: String,
    /// The last commit of the work.
    pub(super) work: String,
    /// The runner's directory, where it still holds work that the commit lacks; empty where the runner does not say.
    pub(super) left_in: Option<String>,
}

/// Why a runner's agent did not begin, or did not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RunnerFailure {
    /// The project could not be checked out.
    Checkout,
    /// There is no such program as the agent.
    Program,
    /// Its time ran out.
    Time,
    /// A word that this ccl does not know.
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct CheckResult {
    pub(super) exit: i32,
    pub(super) seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tombstone {
    version: u32,
    /// Why the run was taken away.
    pub(super) tombstone: Why,
    /// The sentence that stands in the filed task.
    pub(super) reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Why {
    /// The engine has ended or forgotten the job, and there is no result.
    Lost,
    /// The engine has ended the job, and no runner had begun: another run may take its place.
    Unbegun,
    /// A person cancelled it, here or at the engine.
    Cancelled,
    /// The task runs here after all.
    Withdrawn,
}

impl Tombstone {
    pub(super) fn new(tombstone: Why, reason: String) -> Self {
        Self { version: 1, tombstone, reason }
    }
}

/// The parts of a commit object that are read here.
struct Commit<'a> {
    parents: Vec<&'a str>,
    message: &'a str,
}

impl<'a> Commit<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, message) = text.split_once("\n\n")?;
        let parents = head.lines().filter_map(|line| line.strip_prefix("parent ")).collect();
        Some(Self { parents, message })
    }
}

/// The message of a claim, a result or a tombstone: the keys of all three.
#[derive(Deserialize)]
struct RunMessage {
    version: u32,
    claim: Option<String>,
    tombstone: Option<serde_json::Value>,
    exit: Option<i32>,
    failed: Option<RunnerFailure>,
    host: Option<String>,
    directory: Option<String>,
    work: Option<String>,
    check: Option<CheckResult>,
}

/// Reads the commit that `run` names; `base` is the commit that the run has to start from. A result is believed only
/// once [`is_claim_of`] has seen its claim.
pub(super) fn parse(bytes: &[u8], base: &str) -> RunCommit {
    let Some(commit) = Commit::parse(bytes) else {
        return RunCommit::Foreign("a commit that ccl cannot read");
    };
    let line = commit.message.trim();
    let Ok(message) = serde_json::from_str::<RunMessage>(line) else {
        return RunCommit::Foreign("a commit that no runner of ccl has made");
    };
    if message.version != 1 {
        return RunCommit::Foreign("a commit of another version of ccl");
    }
    if message.tombstone.is_some() {
        return match serde_json::from_str(line) {
            Ok(tombstone) => RunCommit::Tombstone(tombstone),
            Err(_) => RunCommit::Foreign("a commit of another version of ccl"),
        };
    }
    match (message, commit.parents.as_slice()) {
        (RunMessage { claim: Some(_), host, directory, .. }, [parent]) if *parent == base => {
            RunCommit::Claim(Workplace { host: short(host, 64), directory: short(directory, 256) })
        }
        (
            RunMessage {
                exit: Some(exit), failed, host, directory, work: Some(work), check, ..
            },
            [claim, parent],
        ) if *parent == work => RunCommit::Result(RunResult {
            exit,
            failed,
            host: short(host, 64),
            check,
            claim: (*claim).to_owned(),
            work,
            left_in: directory.map(|directory| short(Some(directory), 256)),
        }),
        _ => RunCommit::Foreign("the work on another task"),
    }
}

/// The first `most` characters of what a runner says of itself.
fn short(word: Option<String>, most: usize) -> String {
    word.unwrap_or_default().chars().take(most).collect()
}

/// Whether a commit is a claim of the run that starts from `base`.
pub(super) fn is_claim_of(bytes: &[u8], base: &str) -> bool {
    matches!(parse(bytes, base), RunCommit::Claim(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(parents: &[&str], message: &str) -> Vec<u8> {
        let parents: String = parents.iter().map(|it| format!("parent {it}\n")).collect();
        format!("tree t\n{parents}author a <a@b> 1 +0000\n\n{message}\n").into_bytes()
    }

    #[test]
    fn claim_result_and_tombstone_are_told_apart() {
        let read = |parents: &[&str], message: &str| parse(&commit(parents, message), "base");
        for (said, directory) in [("", ""), (r#","directory":"/tmp/ccl-1""#, "/tmp/ccl-1")] {
            let claim = format!(r#"{{"version":1,"claim":"ab","host":"h"{said}}}"#);
            let place = Workplace { host: "h".to_owned(), directory: directory.to_owned() };
            assert_eq!(read(&["base"], &claim), RunCommit::Claim(place));
        }
        let result =
            r#"{"version":1,"exit":3,"host":"h","work":"w","check":{"exit":1,"seconds":7}}"#;
        let RunCommit::Result(result) = read(&["c", "w"], result) else { panic!("no result") };
        assert_eq!((result.exit, result.claim.as_str(), result.work.as_str()), (3, "c", "w"));
        assert_eq!(result.check, Some(CheckResult { exit: 1, seconds: 7 }));
        assert_eq!(result.failed, None);
        for (word, want) in
            [("time", RunnerFailure::Time), ("of another version", RunnerFailure::Other)]
        {
            let result =
                format!(r#"{{"version":1,"exit":124,"host":"h","work":"w","failed":"{word}"}}"#);
            let RunCommit::Result(result) = read(&["c", "w"], &result) else { panic!("{result}") };
            assert_eq!(result.failed, Some(want));
        }
        let tombstone = Tombstone::new(Why::Lost, "why".to_owned());
        let text = serde_json::to_string(&tombstone).unwrap();
        assert_eq!(text, r#"{"version":1,"tombstone":"lost","reason":"why"}"#);
        assert_eq!(read(&["base"], &text), RunCommit::Tombstone(tombstone));
    }

    #[test]
    fn what_does_not_hang_together_is_not_believed() {
        for (parents, message) in [
            (vec!["other"], r#"{"version":1,"claim":"ab"}"#),
            (vec!["base", "x"], r#"{"version":1,"claim":"ab"}"#),
            (vec!["c"], r#"{"version":1,"exit":0,"work":"w"}"#),
            (vec!["c", "x"], r#"{"version":1,"exit":0,"work":"w"}"#),
            (vec!["c", "w"], r#"{"version":2,"exit":0,"work":"w"}"#),
            (vec!["c", "w"], r#"{"version":1,"exit":"0","work":"w"}"#),
            (vec!["c", "w"], "first"),
            (vec!["base"], r#"{"version":1,"tombstone":"dissolved","reason":"x"}"#),
        ] {
            let read = parse(&commit(&parents, message), "base");
            assert!(matches!(read, RunCommit::Foreign(_)), "{parents:?} {message}: {read:?}");
        }
        assert!(matches!(parse(b"\xff", "base"), RunCommit::Foreign(_)));
        assert!(!is_claim_of(&commit(&["other"], r#"{"version":1,"claim":"a"}"#), "base"));
    }
}
