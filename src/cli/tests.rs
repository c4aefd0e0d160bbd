//! What is understood, and what is not.

use super::*;
use clap::CommandFactory;
use clap::error::ErrorKind;

fn parse(line: &str) -> Result<Cli, ErrorKind> {
    Cli::try_parse_from(line.split(' ')).map_err(|error| error.kind())
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_of_the_design_is_understood() {
    for line in [
        "ccl scan",
        "ccl scan --dry-run --project a --project /b --json",
        "ccl assign",
        "ccl assign ccl-auto-0 -q",
        "ccl reap -n",
        "ccl decide a.md b.md",
        "ccl status --config c.yaml",
        "ccl status --format prometheus",
        "ccl status --format html",
        "ccl status --watch",
        "ccl http",
        "ccl pause",
        "ccl pause --project p a release",
        "ccl resume --project p --json",
        "ccl report",
        "ccl report --since yesterday --format markdown --project p",
        "ccl add",
        "ccl add - --priority high --title T --tag a --tag b --preferred-ai gpu --allow-delegation",
        "ccl add a.md --project p --provider auto --complexity low",
        "ccl retry a.md --project p",
        "ccl land a.md --project p",
        "ccl cancel a",
        "ccl --config c.yaml -v status",
        "ccl doctor --json",
        "ccl job submit a.md --provider claude-api",
        "ccl job get job_1 --json",
        "ccl job result job_1 --wait",
        "ccl completions zsh",
        "ccl man",
        "ccl man job submit",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for line in [
        "ccl",
        "ccl skan",
        "ccl decide",
        "ccl scan -v -q",
        "ccl scan extra",
        "ccl job submit a.md --provider claude-code",
        "ccl job get ../x",
        "ccl completions cmd",
        "ccl add --priority urgent",
        "ccl retry",
        "ccl status --format xml",
    ] {
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn flags_become_overrides() {
    let cli = parse("ccl scan --project a --project b --config c --state-dir d").unwrap();
    let overrides = cli.overrides();
    assert_eq!(overrides.projects, [PathBuf::from("a"), PathBuf::from("b")]);
    assert_eq!(overrides.config, Some("c".into()));
    assert_eq!(overrides.state_dir, Some("d".into()));
    let assign = parse("ccl assign --project p").unwrap().overrides();
    assert_eq!(assign.projects, [PathBuf::from("p")]);
}

#[test]
fn how_much_is_said() {
    for (line, level) in [
        ("ccl status", Level::Info),
        ("ccl status -v", Level::Debug),
        ("ccl status --quiet", Level::Warn),
    ] {
        assert_eq!(parse(line).unwrap().level(), level, "{line}");
    }
}

#[test]
fn providers_are_those_that_take_jobs() {
    for (word, expected) in
        [("gpu", Provider::Gpu), ("gemini", Provider::Gemini), ("claude-api", Provider::ClaudeApi)]
    {
        let cli = parse(&format!("ccl job submit a.md --provider {word}")).unwrap();
        let Command::Job(JobCommand::Submit { provider, .. }) = cli.command else {
            panic!("not a submit");
        };
        assert_eq!(provider, Some(expected));
    }
}

#[test]
fn the_long_help_names_the_exit_status_of_a_temporary_failure() {
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("75  impossible right now"), "{help}");
    assert!(help.contains("ccl decide .agent-queue/inbox/*.md"), "{help}");
}
