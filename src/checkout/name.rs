//! A task's name as a branch and a directory. Pure.

use crate::text::is_unprintable;

/// In bytes: git adds `.lock` to it, `ccl` a number, and a file's name may have 255.
const LONGEST: usize = 100;

/// The task's name made fit for a ref (git-check-ref-format(1)), a directory, and a shell's command without quotes.
pub(super) fn fit(task: &str) -> String {
    let task = task.strip_suffix(".md").unwrap_or(task);
    let mut name = String::new();
    for c in task.chars() {
        let fits = c.is_ascii_alphanumeric()
            || matches!(c, '-' | '_' | '.' | '+' | '=' | '@' | '%' | ',')
            || !c.is_ascii() && !c.is_whitespace() && !is_unprintable(c);
        let c = if fits { c } else { '-' };
        // `..` is a range of git's, and one `-` says as much as five.
        if !(matches!(c, '.' | '-') && name.ends_with(c)) {
            name.push(c);
        }
    }
    let end = (0..=LONGEST.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    name.truncate(end.unwrap_or(0));
    let mut name = name.as_str();
    loop {
        // In a loop: what comes off may leave another end that git refuses.
        let trimmed = name.trim_matches(['.', '-']);
        let trimmed = trimmed.strip_suffix(".lock").unwrap_or(trimmed);
        if trimmed == name {
            break;
        }
        name = trimmed;
    }
    if name.is_empty() { "task".to_owned() } else { name.to_owned() }
}

/// The first of `T`, `T.2`, `T.3` … that is free.
pub(super) fn first_free(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2_u64..).map(|number| format!("{name}.{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    // There are more numbers than names that are taken, so one is always found.
    names.find(|name| !is_taken(name)).unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [(&str, &str); 24] = [
        ("fix.md", "fix"),
        ("fix", "fix"),
        ("fix login.md", "fix-login"),
        ("a  &  b.md", "a-b"),
        ("Füße 日本.md", "Füße-日本"),
        (".md", "task"),
        ("...md", "task"),
        (".hidden.md", "hidden"),
        ("-x.md", "x"),
        ("a..b.md", "a.b"),
        ("a.lock.md", "a"),
        ("a.lock.lock.md", "a"),
        ("a.lock-.md", "a"),
        ("a@{1}.md", "a@-1"),
        ("@.md", "@"),
        ("a~1^2:3?*[x]\\y.md", "a-1-2-3-x-y"),
        ("it's $(rm).md", "it-s-rm"),
        ("a/b.md", "a-b"),
        ("a\nb\tc\u{7f}d.md", "a-b-c-d"),
        ("a\u{202e}b.md", "a-b"),
        ("a\u{a0}b.md", "a-b"),
        ("v1.2+3=4,5%.md", "v1.2+3=4,5%"),
        ("x.md.md", "x.md"),
        ("- - -.md", "task"),
    ];

    #[test]
    fn a_name_is_made_fit() {
        for (task, expected) in TABLE {
            assert_eq!(fit(task), expected, "{task:?}");
        }
        assert_eq!(fit(&"x".repeat(300)).len(), LONGEST);
        assert_eq!(fit(&"日".repeat(100)), "日".repeat(33));
    }

    #[test]
    fn git_takes_every_name() {
        for (task, _) in TABLE {
            let name = format!("refs/heads/ccl/{}.2", fit(task));
            let mut git = std::process::Command::new("git");
            assert!(git.args(["check-ref-format", &name]).status().unwrap().success(), "{name}");
        }
    }

    #[test]
    fn the_first_free_name_is_taken() {
        let taken = ["fix", "fix.2", "fix.4"];
        let free = |name| first_free(name, |name| taken.contains(&name));
        assert_eq!((free("fix"), free("new")), ("fix.3".to_owned(), "new".to_owned()));
    }
}
