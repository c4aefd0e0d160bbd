//! `ccl add`: writes a task into an inbox, complete or not at all.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::{Context, Pass, projects, read_bytes};
use crate::cli::NewTask;
use crate::durable::read_at_most;
use crate::error::Failure;
use crate::event::{Event, EventKind};
use crate::queue::{Folder, Name, Project};
use crate::task::{self, HeaderState, Task};
use crate::text::path_text;

/// A name that is made of words has at most this many characters.
const SLUG: usize = 60;
/// A file's own name is cut to this many bytes, so that `.123.md` still fits behind it.
const MAX_STEM: usize = 180;

/// `start` is the current directory.
pub(super) fn run(context: Context<'_>, start: Option<&Path>, new: &NewTask) -> Result<Pass> {
    let project = project(context, start, new)?;
    let given = read(context, new.file.as_deref())?;
    let fields = fields(new)?;
    let text = task::with_fields(&given, &fields);
    let text = task::text_of(text.as_bytes()).context("this is no task")?;
    let task = task::parse(text);
    check(&given, &task, &fields)?;
    let name = name(new, &task)?;
    let placed = {
        let _lock = project.lock()?;
        project.put(Folder::Inbox, &name, text)?
    };
    context.warn_about(&placed, &task);
    let is_remote = new.provider.as_deref().is_some_and(|provider| provider != "claude-code");
    if is_remote && !new.allow_delegation {
        context.log.warn(
            "without --allow-delegation the task does not leave this machine, whatever its provider",
        );
    }
    let file = placed.file_name().unwrap_or_default().to_string_lossy();
    let mut pass = Pass::default();
    pass.record(context, Event::of_task(EventKind::Added, project.path(), file));
    Ok(pass)
}

/// The project that `--project` names, else the one around `start`, else the only one there is.
fn project(context: Context<'_>, start: Option<&Path>, new: &NewTask) -> Result<Project> {
    if new.project.is_none()
        && let Some(here) = start.and_then(projects::nearest)
    {
        return Ok(Project::new(here));
    }
    let projects = context.projects()?;
    match projects.as_slice() {
        [only] => Ok(only.clone()),
        [] => bail!(Failure::Usage(
            "there is no project yet: run `mkdir -p DIR/.agent-queue/inbox`, and name it with --project DIR"
                .to_owned(),
        )),
        several => {
            let paths: Vec<String> = several.iter().map(|it| path_text(it.path())).collect();
            let paths = paths.join(", ");
            bail!(Failure::Usage(format!("which project? Name one with --project: {paths}")))
        }
    }
}

/// The file's text, or that of standard input.
fn read(context: Context<'_>, file: Option<&Path>) -> Result<String> {
    let (source, bytes) = match file {
        Some(file) if file != "-" => (path_text(file), read_bytes(file)?),
        _ => {
            let stdin = io::stdin();
            if stdin.is_terminal() {
                context.log.info("Type the task; Ctrl-D ends it.");
            }
            let bytes =
                read_at_most(stdin.lock(), task::MAX_READ).context("cannot read standard input")?;
            ("standard input".to_owned(), bytes)
        }
    };
    // Not refused yet: with a `--title` an empty text becomes a task.
    if bytes.is_empty() {
        return Ok(String::new());
    }
    let text = task::text_of(&bytes).with_context(|| format!("{source} is no task"))?;
    Ok(text.to_owned())
}

/// The header's fields that the command line names, as YAML, of which JSON is a part.
fn fields(new: &NewTask) -> Result<Vec<(&'static str, String)>> {
    let mut fields = Vec::new();
    if let Some(title) = &new.title {
        fields.push(("title", serde_json::to_string(title.trim())?));
    }
    if let Some(priority) = new.priority {
        fields.push(("priority", priority.as_str().to_owned()));
    }
    if !new.tags.is_empty() {
        fields.push(("tags", serde_json::to_string(&new.tags)?));
    }
    fields.extend(new.provider.clone().map(|provider| ("preferred_ai", provider)));
    fields.extend(new.complexity.clone().map(|hint| ("complexity_hint", hint)));
    if new.allow_delegation {
        fields.push(("allow_delegation", "true".to_owned()));
    }
    Ok(fields)
}

/// The header must say what the command line says, and the body what it said before.
fn check(given: &str, task: &Task, fields: &[(&'static str, String)]) -> Result<()> {
    if fields.is_empty() {
        return Ok(());
    }
    let (before, wanted) = (task::parse(given), task::parse(&task::with_fields("", fields)));
    let (header, wanted) = (&task.header, &wanted.header);
    let says = |key: &str| match key {
        "title" => header.title == wanted.title,
        "priority" => header.priority == wanted.priority,
        "tags" => header.tags == wanted.tags,
        "preferred_ai" => header.routing.preferred_ai == wanted.routing.preferred_ai,
        "complexity_hint" => header.routing.complexity_hint == wanted.routing.complexity_hint,
        _ => header.routing.allow_delegation == wanted.routing.allow_delegation,
    };
    let is_sound = task.header.routing.state != HeaderState::Unreadable && task.body == before.body;
    if is_sound && fields.iter().all(|(key, _)| says(key)) {
        return Ok(());
    }
    bail!("the options cannot be set in this task's header: write them into it yourself")
}

/// `fix-the-login.md`: from the title, else from the file's name, else from the first words.
fn name(new: &NewTask, task: &Task) -> Result<Name> {
    let own = new.file.as_deref().filter(|file| *file != "-");
    let own = own.and_then(Path::file_stem).and_then(OsStr::to_str);
    let stem = match (&new.title, own, &task.header.title) {
        (Some(title), ..) => slug(title),
        (None, Some(own), _) => sanitised(own),
        (None, None, Some(title)) => slug(title),
        (None, None, None) => slug(task.body.lines().next().unwrap_or_default()),
    };
    let stem = if stem.is_empty() { "task" } else { &stem };
    Name::from_marker(&format!("{stem}.md"))
        .with_context(|| format!("no file can be named {stem:?}: give the task a --title"))
}

/// Words in small letters, with `-` between them.
fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut slug = String::new();
    for word in words.map(str::to_lowercase) {
        if slug.chars().count() + word.chars().count() >= SLUG && !slug.is_empty() {
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.extend(word.chars().take(SLUG));
    }
    slug
}

/// A file's own name, as far as an inbox takes it.
fn sanitised(stem: &str) -> String {
    let mut kept = String::new();
    for c in stem.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > MAX_STEM {
            break;
        }
        kept.push(c);
    }
    // What begins with a dot is no task.
    kept.trim_start_matches('.').trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_words() {
        for (text, name) in [
            ("Fix the login: NOW!", "fix-the-login-now"),
            ("  ../../etc/passwd\0 ", "etc-passwd"),
            ("Überschrift — 日本", "überschrift-日本"),
            ("…", ""),
        ] {
            assert_eq!(slug(text), name);
        }
        assert_eq!(slug(&"word ".repeat(50)).chars().count(), 59);
        assert_eq!(slug(&"x".repeat(100)).len(), SLUG);
    }

    #[test]
    fn a_files_own_name_is_kept_as_far_as_an_inbox_takes_it() {
        assert_eq!(sanitised("a b\n.c"), "a b.c");
        assert_eq!(sanitised("..hidden"), "hidden");
        assert_eq!(sanitised(&"é".repeat(200)).len(), MAX_STEM);
    }
}
