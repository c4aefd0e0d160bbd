//! A result that takes longer than a pass has.

use std::fs;

use jiff::Timestamp;

use crate::support::git::instead_of_git;
use crate::world::{World, left_in};

#[test]
fn what_takes_longer_than_a_pass_waits_leaves_nothing_and_may_be_fetched_by_hand() {
    let (mut world, key, entrypoint) = World::submitted();
    world.worker().command(&entrypoint).output().unwrap();
    let plain = std::env::var_os("PATH").unwrap();
    let log = world.sandbox.path().join("fetches");
    // What git leaves where it is killed, and then nothing more.
    let path = instead_of_git(world.sandbox.path(), |git| {
        format!(
            "#!/bin/sh\ncase \"$*\" in *' fetch '*)\nobjects=${{GIT_OBJECT_DIRECTORY:-.git/objects}}\n\
             mkdir -p \"$objects/pack\"; echo x >\"$objects/pack/tmp_pack_x\"; echo x >>{}; sleep 9999 ;; esac\n\
             exec {git} \"$@\"\n",
            log.display()
        )
    });
    let fetches = || fs::read_to_string(&log).unwrap().lines().count();
    world.sandbox.env("PATH", &path);
    let said = world.pass(&["reap"]);
    let by_hand = format!("git fetch {} refs/ccl/{key}/run", world.exchange().display());
    assert!(said.contains("cannot be fetched") && said.contains(&by_hand), "{said}");
    assert!(said.contains("tries it again in 1m"), "{said}");
    let objects = world.project.root().join(".git/objects");
    assert_eq!(left_in(&objects, "tmp_"), [""; 0]);
    assert_eq!(left_in(&objects.join("pack"), "tmp_"), [""; 0]);
    let unfetched = world.marker("a.md")["exchange"]["unfetched"].clone();
    let not_before: Timestamp = unfetched["not_before"].as_str().unwrap().parse().unwrap();
    assert!(unfetched["tries"] == 1 && not_before > Timestamp::now(), "{unfetched}");
    // Its time has not come. `status` has the word.
    let _ = world.pass(&["reap"]);
    assert_eq!(fetches(), 1);
    world.sandbox.env("PATH", &plain);
    let mut tmux_less = world.sandbox.ccl(["status", "--format", "json"]);
    let status = String::from_utf8(tmux_less.output().unwrap().stdout).unwrap();
    assert!(status.contains(&by_hand), "{status}");
    world.pass(&["reap"]);
    assert_eq!(world.project.inbox(), ["a.md", "a.md.delegated"]);
    // A person has the time.
    let words: Vec<&str> = by_hand.split(' ').skip(1).collect();
    world.project.git(words);
    world.pass(&["reap"]);
    assert_eq!(world.project.done(), ["a.md"]);
    assert!(world.is_clean());
}
