use super::{Editor, Status, reads_commands_from_terminal, shell_of};

#[test]
fn a_shell_is_told_by_its_file() {
    for (exe, shell) in [
        ("bash", Some(Editor::Own)),
        ("bash (deleted)", Some(Editor::Own)),
        ("bash-5.2", Some(Editor::Own)),
        ("zsh5", Some(Editor::Own)),
        ("fish", Some(Editor::Own)),
        ("dash", Some(Editor::Kernel)),
        ("sh.distrib", Some(Editor::Kernel)),
        ("ksh93", Some(Editor::Either)),
        ("busybox", None),
        ("fish_indent", None),
        ("bashful", None),
        ("ssh", None),
        ("vim", None),
        ("", None),
        ("?", None),
    ] {
        assert_eq!(shell_of(exe), shell, "{exe}");
    }
}

#[test]
fn scripts_and_commands_are_not_interactive() {
    for (line, interactive) in [
        ("bash", true),
        ("-bash", true),
        ("bash -i", true),
        ("bash -l", true),
        ("bash --login --norc", true),
        ("bash --rcfile /x", true),
        ("bash --rcfile=/x", true),
        ("bash -o vi", true),
        ("bash +O extglob", true),
        ("zsh -eo pipefail", true),
        ("fish -C ls", true),
        ("fish --init-command ls", true),
        ("sh -s a b", true),
        ("bash --", true),
        ("bash -", true),
        ("bash long.sh", false),
        ("bash -x long.sh", false),
        ("bash -o vi long.sh", false),
        ("bash --norc long.sh", false),
        ("bash -- long.sh", false),
        ("bash 1000", false),
        ("sh -c read", false),
        ("bash -lc read", false),
        ("fish --command=read", false),
        ("fish --command read", false),
        ("-bash -c x", false),
    ] {
        let argv: Vec<&str> = line.split(' ').collect();
        assert_eq!(reads_commands_from_terminal(&argv), interactive, "{line}");
    }
}

#[test]
fn the_status_is_read() {
    let text = "Name:\tbash\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000002\nSigIgn:\t0000000000384004\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t3\n";
    let read = Status::parse(text).unwrap();
    assert_eq!(read, Status { pending: true, ignores_stop: true, sleeps: 17 });
    let read =
        Status::parse(&text.replace("0002\n", "0000\n").replace("384004", "300004")).unwrap();
    assert_eq!(read, Status { pending: false, ignores_stop: false, sleeps: 17 });
    assert_eq!(Status::parse("Name:\tbash\n"), None);
}
