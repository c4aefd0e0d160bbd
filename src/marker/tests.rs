use super::*;

fn cooldown() -> Cooldown {
    Cooldown {
        stamp: Stamp::new("host", Timestamp::UNIX_EPOCH),
        until: Timestamp::UNIX_EPOCH,
        reason: "no evidence".to_owned(),
        needs_attention: false,
        of_program: false,
        agent: Some("claude".to_owned()),
    }
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.cooldown");
    assert!(read::<Cooldown>(&path).unwrap().is_none());
    write(&path, &cooldown()).unwrap();
    assert_eq!(read::<Cooldown>(&path).unwrap().unwrap(), cooldown());
}

#[test]
fn nonsense_is_named_and_left_alone() {
    let whole = serde_json::to_string(&cooldown()).unwrap();
    let cases: &[(&str, &str)] = &[
        ("", "not a marker"),
        (&whole[..whole.len() / 2], "not a marker"),
        (r#"{"version":2}"#, "of version 2"),
        (r#"{"version":1}"#, "missing field"),
        (r#"{"host":"h"}"#, "missing field `version`"),
        ("[1]", "not a marker"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.cooldown");
    for (text, expected) in cases {
        std::fs::write(&path, text).unwrap();
        let error = read::<Cooldown>(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.contains("s.cooldown"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), *text);
    }
}

#[test]
fn what_is_wrong_with_a_marker_is_reported_in_short() {
    let phase = format!("\"{}\"", "é".repeat(5000));
    let error = serde_json::from_str::<Phase>(&phase).map_err(not_a_marker);
    let why = error.unwrap_err();
    assert!(why.contains("unknown variant `éé"), "{why}");
    assert!(why.chars().count() < 250, "{why}");
}

#[test]
fn a_link_or_a_fifo_is_no_marker() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    write(&target, &cooldown()).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert!(read::<Cooldown>(&link).is_err());
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(read::<Cooldown>(&fifo).is_err());
}
