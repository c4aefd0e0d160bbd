//! Markers: what is read says the same when it is written again, and half of one says nothing.

use std::fmt::Debug;
use std::path::Path;

use ccl::marker::{ClaimMarker, Cooldown, Dispatched, VERSION, parse};
use ccl::queue::Name;
use ccl::remote::Delegated;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// All of it, for the bytes of a marker of any kind.
pub fn check(bytes: &[u8]) {
    if let Some(claim) = reads_as_written::<ClaimMarker>(bytes) {
        assert_eq!(claim.stamp.version, VERSION);
    }
    if let Some(dispatched) = reads_as_written::<Dispatched>(bytes) {
        assert!(dispatched.pane.is_none_or(|pane| pane.pid.as_raw_nonzero().get() > 0));
        stays_in_the_inbox(&dispatched.task);
    }
    if let Some(cooldown) = reads_as_written::<Cooldown>(bytes) {
        assert_eq!(cooldown.stamp.version, VERSION);
    }
    if let Some(delegated) = reads_as_written::<Delegated>(bytes)
        && let Some(id) = delegated.job_id()
    {
        let url = format!("v1/jobs/{id}");
        assert!(Path::new(&url).file_name().is_some_and(|name| name == id.as_str()));
    }
}

/// The marker in `bytes`, if it is one of this kind.
fn reads_as_written<T>(bytes: &[u8]) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let marker: T = match parse(bytes) {
        Ok(marker) => marker,
        Err(why) => {
            assert!((1..=300).contains(&why.chars().count()), "{why}");
            return None;
        }
    };
    let json = serde_json::to_vec(&marker).expect("it was JSON");
    let again: T = parse(&json).expect("what was written is read");
    assert_eq!(again, marker);
    assert_eq!(serde_json::to_vec(&again).expect("it was JSON"), json);
    for cut in super::cuts(&json) {
        assert!(parse::<T>(&json[..cut]).is_err(), "cut off at {cut}");
    }
    let text = String::from_utf8(json).expect("JSON");
    let newer = text.replacen("\"version\":1", "\"version\":2", 1);
    let why = parse::<T>(newer.as_bytes()).expect_err("another version");
    assert!(why.contains("version 2"), "{why}");
    assert_eq!(kinds(text.as_bytes()), 1, "{text}");
    Some(marker)
}

/// As how many kinds it can be read: a marker of one kind is none of another.
fn kinds(bytes: &[u8]) -> usize {
    let read = [
        parse::<ClaimMarker>(bytes).is_ok(),
        parse::<Dispatched>(bytes).is_ok(),
        parse::<Cooldown>(bytes).is_ok(),
        parse::<Delegated>(bytes).is_ok(),
    ];
    read.into_iter().filter(|&read| read).count()
}

/// The task that a session's marker names is a file in the inbox, or none.
fn stays_in_the_inbox(task: &str) {
    let inbox = Path::new("/p/.agent-queue/inbox");
    if let Some(name) = Name::from_marker(task) {
        let path = inbox.join(name.as_str());
        assert_eq!(path.parent(), Some(inbox), "{task:?}");
        assert_eq!(path.extension().and_then(|it| it.to_str()), Some("md"));
    }
}
