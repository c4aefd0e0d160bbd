//! What the page says, in what order, and how much of it there is.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::Sandbox;
use crate::{HOSTILE, Scene, page};

#[test]
fn what_needs_a_person_comes_first_with_the_sentence_that_mends_it() {
    let scene = Scene::new();
    let page = scene.page();
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}\n{page}"));
    let order = [
        "Needs you",
        "needs attention",
        "ccl cancel",
        "links are not followed",
        ">To land<",
        "settings.md",
        ">Sessions<",
        "Fix the login redirect",
        ">Queues<",
        ">Next<",
        "Add tests for the cart",
        "waits: ",
        ">At secutools<",
        "job-with-a-name",
        ">Agents<",
        ">spare<",
        ">Last 24 hours<",
        ">Ended lately<",
        "What this pool did",
        ">Recurring<",
    ];
    let places: Vec<usize> = order.iter().map(|text| at(text)).collect();
    assert!(places.is_sorted(), "{:?}", order.iter().zip(places).collect::<Vec<_>>());
    assert!(page.contains("<code>claude</code> once"), "the end of a long reason is shown");
    assert!(page.contains("The last scan ended at <time"), "{page}");
    assert!(!page.contains("http-equiv=\"refresh\""), "{page}");
}

#[test]
fn nothing_of_what_others_wrote_is_markup() {
    let scene = Scene::new();
    let page = scene.page();
    for markup in ["<script", "<img", "<b>name", "onclick=\"alert", "onerror=alert(3)>", "\u{202e}"]
    {
        assert!(!page.contains(markup), "{markup}");
    }
    assert!(page.contains("\\u{202e}desrever"), "it is shown as it is written");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    // A title is cut at 200 characters, and whole in the tooltip.
    let whole = format!("{HOSTILE} {}", "long ".repeat(1200));
    assert!(!whole.is_empty() && page.contains(&"long ".repeat(1199)), "the tooltip is whole");
    assert_eq!(page.matches(&"long ".repeat(50)).count(), 1_199 / 50, "and nothing else is");
    assert!(page.len() < 120 << 10, "{}", page.len());
}

#[test]
fn the_policy_names_the_style_that_the_page_has() {
    let mut sandbox = Sandbox::new();
    sandbox.project("web");
    sandbox.config("tmux", json!({"command": ["/nonexistent/tmux"]}));
    let out = sandbox.ccl(["status", "--format", "html"]).output().unwrap();
    assert_eq!(out.status.code(), Some(75), "tmux is not there, and the page all the same");
    let page = String::from_utf8(out.stdout).unwrap();
    assert!(page.contains("cannot be read") && page.contains("/nonexistent/tmux"), "{page}");
    let style = page.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>"));
    let hash = "import base64, hashlib, sys; \
                print(base64.b64encode(hashlib.sha256(sys.argv[1].encode()).digest()).decode(), end='')";
    let out = Command::new("python3").args(["-c", hash, style.unwrap().0]).output().unwrap();
    let hash = String::from_utf8(out.stdout).unwrap();
    let policy = format!("style-src 'sha256-{hash}'");
    assert!(page.contains(&policy), "src/report/page/mod.rs has to say {policy}");
    for elsewhere in ["http://", "https://", "src=", "<link", "@import", " style="] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
}

#[test]
fn a_thousand_tasks_make_less_than_200_kib() {
    let mut sandbox = Sandbox::new();
    let _tmux = sandbox.tmux();
    for number in 0..10 {
        let project = sandbox.project(&format!("project-{number}"));
        for task in 0..100 {
            let title = format!("Task {task} of the project: {}", "what is to be done ".repeat(9));
            let text = format!("---\ntitle: '{title}'\n---\nx\n");
            fs::write(project.queue("inbox").join(format!("task-{task:03}.md")), text).unwrap();
        }
        for held in 0..10 {
            let at = project.queue("inbox").join(format!("held-{held}.md"));
            std::os::unix::fs::symlink("/etc/passwd", at).unwrap();
        }
    }
    let page = page(&sandbox);
    assert!(page.len() < 200 << 10, "{} KiB", page.len() >> 10);
    assert!(page.contains("… and 900 tasks more"), "{page}");
    assert!(page.contains("held-0.md") && page.contains(" and 5 more"), "{page}");
}

#[test]
fn a_thousand_projects_make_less_than_200_kib() {
    let mut sandbox = Sandbox::new();
    let _tmux = sandbox.tmux();
    for number in 0..1000 {
        let project = sandbox.project(&format!("a-project-with-a-name-of-its-own-{number:04}"));
        fs::write(project.queue("inbox").join("a-task.md"), "---\ntitle: Do it\n---\nx\n").unwrap();
        fs::write(project.root().join(".agent-queue/paused"), "because of the release").unwrap();
    }
    let page = page(&sandbox);
    assert!(page.len() < 200 << 10, "{} KiB", page.len() >> 10);
    for more in
        ["… and 900 projects more", "… and 900 tasks more", "… and 990 more projects are paused"]
    {
        assert!(page.contains(more), "{more}\n{page}");
    }
}

#[test]
fn where_nothing_happens_the_page_says_so() {
    let mut sandbox = Sandbox::new();
    let _tmux = sandbox.tmux();
    sandbox.project("web");
    let page = page(&sandbox);
    for sentence in
        ["Nothing needs you", "No scan has been made yet", "Nothing ended.", "No cost is known."]
    {
        assert!(page.contains(sentence), "{sentence}\n{page}");
    }
}

#[test]
fn a_pause_and_an_unreadable_journal_are_shown() {
    let mut sandbox = Sandbox::new();
    let _tmux = sandbox.tmux();
    sandbox.project("web");
    sandbox.ccl(["pause", "a <release>"]).assert().success();
    let journal = sandbox.state_dir().join("journal.jsonl");
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
    let page = page(&sandbox);
    assert!(page.contains("a &lt;release&gt;") && page.contains("ccl resume"), "{page}");
    assert!(page.contains("cannot read") && page.contains("journal.jsonl"), "{page}");
}

#[test]
fn where_no_scan_has_ended_for_long_and_a_task_waits_that_needs_a_person() {
    let mut sandbox = Sandbox::new();
    let _tmux = sandbox.tmux();
    let project = sandbox.project("web");
    sandbox.ccl(["scan"]).assert().success();
    let passed = fs::File::options().write(true).open(sandbox.state_dir().join("passed")).unwrap();
    passed.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    assert!(page(&sandbox).contains("Nothing needs you"), "nobody waits for one");
    project.drop_task("a.md", "Do it.\n");
    let page = page(&sandbox);
    assert!(page.contains("nothing is handed out") && page.contains("ccl.timer"), "{page}");
    assert!(page.contains("<title>1 thing needs you: ccl on "), "{page}");
}
