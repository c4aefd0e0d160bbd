//! An exchange that takes the connection and never answers: one call of git waits for it in a pass, and not for long.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;

use crate::world::{TASK, World};

/// It lives as long as the test binary.
struct Silent {
    url: String,
    taken: Arc<Mutex<Vec<TcpStream>>>,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("git://{}/x.git", listener.local_addr().unwrap());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&taken);
        thread::spawn(move || {
            listener.incoming().for_each(|stream| all.lock().unwrap().push(stream.unwrap()));
        });
        Self { url, taken }
    }

    /// How often it was connected to.
    fn calls(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

/// Says in the markers of these tasks where their exchange is.
fn set_exchange(world: &World, tasks: &[&str], url: &str) {
    for task in tasks {
        let mut marker = world.marker(task);
        marker["exchange"]["url"] = json!(url);
        let path = world.project.queue("inbox").join(format!("{task}.delegated"));
        fs::write(path, marker.to_string()).unwrap();
    }
}

#[test]
fn what_runs_is_left_alone_and_is_filed_later() {
    let world = World::new();
    let tasks = ["a.md", "b.md", "c.md"];
    tasks.iter().for_each(|task| drop(world.project.drop_task(task, TASK)));
    world.pass(&["scan"]);
    for job in world.ray.jobs().values() {
        assert!(world.worker().command(&job.entrypoint()).status().unwrap().success());
    }
    let silent = Silent::start();
    set_exchange(&world, &tasks, &silent.url);
    let said = world.pass(&["reap"]);
    assert!(said.contains(&silent.url) && said.contains("no answer within 30 s"), "{said}");
    assert_eq!(silent.calls(), 1);
    assert_eq!((world.project.done().len(), world.refs().len()), (0, 6));
    set_exchange(&world, &tasks, world.exchange().to_str().unwrap());
    world.pass(&["reap"]);
    assert_eq!(world.project.done(), tasks);
    assert!(world.is_clean());
}

#[test]
fn what_waits_is_held_and_ray_is_not_asked() {
    let mut world = World::new();
    let silent = Silent::start();
    world.sandbox.config("remote", json!({"exchange": silent.url}));
    world.project.drop_task("a.md", TASK);
    world.project.drop_task("b.md", TASK);
    let said = world.pass(&["scan"]);
    assert!(said.contains("no answer within 30 s"), "{said}");
    assert_eq!(said.matches("\nheld").count(), 2, "{said}");
    assert_eq!(silent.calls(), 1);
    assert!(world.ray.jobs().is_empty());
    assert_eq!(world.marker("b.md")["exchange"]["is_sent"], false);
}
