//! The page as people see it, in a real browser.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::chromium::look;
use crate::served::Served;
use crate::support::Sandbox;
use crate::{Scene, page};

/// Where the pictures are kept for whoever wants to look at them.
fn pictures() -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/page");
    fs::create_dir_all(&directory).unwrap();
    directory
}

#[track_caller]
fn is_sound(seen: &Value) {
    let url = &seen["url"];
    for quiet in ["console", "errors", "violations"] {
        assert_eq!(seen[quiet], json!([]), "{url}: {quiet}");
    }
    assert_eq!(seen["requests"], json!([url]), "it asks for nothing else");
    let layout = &seen["layout"];
    assert_eq!(layout["overflow"], 0, "{url}: it is no wider than the window");
    assert_eq!(layout["scripts"], 0, "{url}");
    assert!(seen["passes"].as_u64().unwrap() > 15, "axe has looked: {}", seen["passes"]);
    assert!(layout["smallest"].as_f64().unwrap() >= 9.0, "{url}: {}", layout["smallest"]);
    let text = layout["text"].as_str().unwrap();
    assert!(text.contains("<script>alert(1)</script>"), "hostile words are shown as they are");
}

#[test]
fn it_is_readable_on_a_telephone_at_a_desk_in_the_dark_and_on_paper() {
    let scene = Scene::new();
    let file = scene.sandbox.path().join("page.html");
    fs::write(&file, scene.page()).unwrap();
    let url = format!("file://{}", file.display());
    let shot = |name: &str| pictures().join(name);
    let served = Served::start(&scene.sandbox);
    let seen = look(
        scene.sandbox.path(),
        json!([
            {"url": url, "width": 1280, "shot": shot("desk.png"), "tabs": 4},
            {"url": url, "width": 360, "height": 740, "shot": shot("telephone.png"), "scale": 2},
            {"url": url, "width": 1280, "dark": true, "shot": shot("dark.png")},
            {"url": url, "width": 794, "paper": true, "shot": shot("paper.png")},
            {"url": served.url("/"), "width": 1280, "dark": true},
        ]),
    );
    seen.iter().for_each(is_sound);
    let [desk, telephone, dark, _, over_http] = &seen[..] else { panic!("{seen:#?}") };
    assert_eq!(desk["title"], "3 things need you: ccl on test-host");
    let focused: Vec<&str> =
        desk["focused"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(focused[0].contains("need you"), "{focused:?}");
    assert_eq!(desk["opened"], 1, "the numbers behind a plot are opened by the keyboard");
    assert_eq!(over_http["status"], 200);
    assert_ne!(desk["layout"]["background"], dark["layout"]["background"]);
    assert!(telephone["layout"]["font"].as_f64().unwrap() >= 14.0);
}

#[test]
fn large_numbers_do_not_make_it_wider_than_a_telephone() {
    let mut sandbox = Sandbox::new();
    let _tmux = sandbox.tmux();
    for name in ["web", "a-project-with-a-name-of-its-own"] {
        let inbox = sandbox.project(name).queue("inbox");
        for number in 0..1000 {
            let priority = ["critical", "high", "medium", "low"][number % 4];
            let text = format!("---\npriority: {priority}\n---\nx\n");
            fs::write(inbox.join(format!("a-{number:04}.md")), text).unwrap();
        }
    }
    let file = sandbox.path().join("page.html");
    fs::write(&file, page(&sandbox)).unwrap();
    let url = format!("file://{}", file.display());
    let seen = look(sandbox.path(), json!([{"url": url, "width": 360, "height": 740}]));
    assert_eq!(seen[0]["layout"]["overflow"], 0);
}
