//! What of a project travels, and what holds its tasks here.

use std::fs;

use serde_json::json;

use crate::support::{Project, write_program};
use crate::world::{AGENT, TASK, World};

/// Each is held with the sentence that mends it, which `decide` says beforehand.
#[test]
fn what_does_not_travel_holds_the_task() {
    type Spoil = fn(&World);
    let spoil: [(&str, Spoil); 6] = [
        ("not committed", |world| {
            fs::write(world.project.root().join("README"), "changed\n").unwrap();
        }),
        ("submodules: true", |world| {
            fs::write(world.project.root().join(".gitmodules"), "").unwrap();
            world.project.git(["add", "."]);
            world.project.git(["commit", "-qm", "modules"]);
        }),
        ("lfs: true", |world| {
            fs::write(world.project.root().join(".gitattributes"), "*.bin filter=lfs\n").unwrap();
            world.project.git(["add", "."]);
            world.project.git(["commit", "-qm", "pointers"]);
        }),
        ("--unshallow", |world| {
            world.project.git(["commit", "-q", "--allow-empty", "-m", "second"]);
            let head = world.project.git(["rev-parse", "HEAD"]);
            fs::write(world.project.root().join(".git/shallow"), head + "\n").unwrap();
        }),
        ("commit", |world| {
            fs::remove_dir_all(world.project.root().join(".git")).unwrap();
            world.project.git(["init", "-q"]);
        }),
        ("git init", |world| fs::remove_dir_all(world.project.root().join(".git")).unwrap()),
    ];
    for (words, spoil) in spoil {
        let world = World::new();
        world.project.drop_task("a.md", TASK);
        spoil(&world);
        let file = world.project.queue("inbox").join("a.md");
        let decided = world.pass(&["decide", file.to_str().unwrap()]);
        assert!(decided.contains("would be held") && decided.contains(words), "{decided}");
        let said = world.pass(&["scan"]);
        assert!(said.contains("held") && said.contains(words), "{said}");
        assert_eq!(world.project.inbox(), ["a.md"], "{words}");
        assert!(world.ray.requests().is_empty() && world.refs().is_empty(), "{words}");
        let doctor = String::from_utf8(world.run(&["doctor"]).stdout).unwrap();
        assert!(doctor.contains("can go to Ray") && doctor.contains(words), "{doctor}");
    }
}

#[test]
fn an_untracked_queue_is_not_dirt_and_dirt_may_be_left_behind() {
    let mut world = World::new().runs();
    fs::write(world.project.root().join(".git/info/exclude"), "").unwrap();
    world.project.drop_task("a.md", TASK);
    world.converge("a.md", "done/a.md");
    world.sandbox.config("remote", json!({"dirty": "ignore"}));
    fs::write(world.project.root().join("README"), "changed\n").unwrap();
    world.project.drop_task("b.md", TASK);
    world.converge("b.md", "done/b.md");
    assert_eq!(world.project.git(["show", "ccl/b:README"]), "one");
    assert_eq!(fs::read_to_string(world.project.root().join("README")).unwrap(), "changed\n");
}

#[test]
fn a_project_below_its_repositorys_top_is_worked_on_there_and_origin_may_be_the_exchange() {
    let mut world = World::new().runs();
    let sub = world.project.root().join("services/it's");
    let inner = Project::make(&sub);
    fs::write(sub.join("file"), "x").unwrap();
    world.project.git(["add", "services"]);
    world.project.git(["commit", "-qm", "second"]);
    let exchange = world.exchange();
    world.project.git(["remote", "add", "origin", exchange.to_str().unwrap()]);
    world.sandbox.config("remote", json!({"exchange": "origin"}));
    let dedicated = json!([{"session": "main", "project": sub}]);
    world.sandbox.config("pool", json!({"dedicated": dedicated}));
    inner.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    world.wait_for_ray();
    world.pass(&["reap"]);
    assert_eq!(inner.done(), ["a.md"]);
    let pwd = fs::read_to_string(world.node().join("pwd")).unwrap();
    assert!(pwd.trim_end().ends_with("/tree/services/it's"), "{pwd}");
    assert_eq!(world.project.git(["show", "ccl/a:services/it's/one"]), "committed");
    assert!(world.refs().is_empty());
}

/// The worker fetches what does not travel by itself, with its own access, from where the project has it.
#[test]
fn a_worker_gets_submodules_and_what_lfs_keeps_where_it_is_to() {
    let agent =
        format!("{AGENT}cat library/file >\"$HOME/library\"\ncat large.bin >\"$HOME/large\"\n");
    let mut world = World::with_agent(&agent);
    let upstream = world.sandbox.project("library");
    upstream.init_git();
    fs::write(upstream.root().join("file"), "of the library\n").unwrap();
    upstream.git(["add", "file"]);
    upstream.git(["commit", "-qm", "file"]);
    let root = world.project.root().to_owned();
    let library = upstream.root().to_str().unwrap();
    // Since 2.38.1 git takes no submodule from a directory unless it is allowed to.
    let allowed = "protocol.file.allow=always";
    world.project.git(["-c", allowed, "submodule", "--quiet", "add", library, "library"]);
    fs::write(root.join(".gitattributes"), "*.bin -text\n*.bin filter=lfs\n").unwrap();
    fs::write(root.join("large.bin"), "a pointer\n").unwrap();
    world.project.git(["add", "."]);
    world.project.git(["commit", "-qm", "second"]);
    // What it is fetched from: nobody looks at the exchange for that.
    world.project.git(["remote", "add", "origin", root.to_str().unwrap()]);
    let config = json!({"lfs": true, "submodules": true});
    world.sandbox.config("remote", config);

    let mut worker = world.worker();
    let bin = world.node().join("bin");
    fs::create_dir(&bin).unwrap();
    // The worker's own git-lfs: it is asked in the checkout, whose `origin` is the project's.
    write_program(
        &bin.join("git-lfs"),
        "#!/bin/sh\n{ echo \"$@\"; git remote get-url origin; } >\"$HOME/lfs\"\necho 'the large file' >large.bin\n",
    );
    let path = std::env::var("PATH").unwrap();
    for (name, value) in [
        ("PATH", format!("{}:{path}", bin.display())),
        ("GIT_CONFIG_COUNT", "1".to_owned()),
        ("GIT_CONFIG_KEY_0", "protocol.file.allow".to_owned()),
        ("GIT_CONFIG_VALUE_0", "always".to_owned()),
    ] {
        worker.env.insert(name.into(), value.into());
    }
    world.ray.run_jobs(worker);
    world.project.drop_task("a.md", TASK);
    world.converge("a.md", "done/a.md");
    let of_node = |name: &str| fs::read_to_string(world.node().join(name)).unwrap();
    assert_eq!(of_node("library"), "of the library\n");
    assert_eq!(of_node("large"), "the large file\n");
    assert_eq!(of_node("lfs"), format!("pull\n{}\n", root.display()));
}
