//! Where projects come from.

use super::*;
use crate::config::Overrides;
use crate::config::tests::Home;
use crate::environment::Environment;
use crate::log::{Level, Style};
use std::os::unix::fs::symlink;

fn silent() -> Log {
    Log::new(Level::Error, Style::Plain, Box::new(std::io::sink()))
}

fn projects(home: &Home, overrides: &Overrides) -> Vec<PathBuf> {
    project_dirs(&home.load_with(overrides).unwrap(), &silent()).unwrap()
}

fn given(paths: &[&str]) -> Overrides {
    Overrides { projects: paths.iter().map(PathBuf::from).collect(), ..Overrides::default() }
}

fn refused(home: &Home, overrides: &Overrides) -> String {
    let config = home.load_with(overrides).unwrap();
    home.sentence(&project_dirs(&config, &silent()).unwrap_err())
}

#[test]
fn projects_dir_goes_before_shared_projects_dir() {
    let home = Home::with("pool: {shared_projects_dir: ~/shared}");
    let shared = home.project("shared/s");
    assert_eq!(projects(&home, &Overrides::default()), [shared]);
    home.write(
        ".config/ccl/config.yaml",
        "pool: {shared_projects_dir: ~/shared}\ndispatcher: {projects_dir: ~/p}",
    );
    let (b, a) = (home.project("p/b"), home.project("p/a"));
    home.write("p/file", "");
    home.write("p/c/.agent-queue", "a file is no queue");
    assert_eq!(projects(&home, &Overrides::default()), [a, b]);
}

#[test]
fn dedicated_projects_come_first_and_once() {
    let home = Home::with(
        "pool:\n  dedicated: [{session: z, project: ~/p/z}, {session: gone, project: ~/gone}]\n  shared_projects_dir: ~/p",
    );
    let (a, z) = (home.project("p/a"), home.project("p/z"));
    assert_eq!(projects(&home, &Overrides::default()), [z.clone(), a]);
    home.write(".config/ccl/config.yaml", "pool: {dedicated: [{session: z, project: ~/p/z}]}");
    home.project("");
    assert_eq!(projects(&home, &Overrides::default()), [z], "not the current directory");
}

#[test]
fn given_projects_go_before_all_others_and_are_real_paths() {
    let home = Home::with("dispatcher: {projects_dir: ~/p}");
    home.project("p/a");
    let x = home.project("x").canonicalize().unwrap();
    symlink("x", home.path("link")).unwrap();
    assert_eq!(projects(&home, &given(&["x", "./x/", "link", "p/../x"])), [x]);
    assert_eq!(
        refused(&home, &given(&["x", "p"])),
        "--project HOME/p: there is no .agent-queue in it; run `mkdir -p HOME/p/.agent-queue/inbox`"
    );
    assert_eq!(
        refused(&home, &given(&["none"])),
        "--project HOME/none: there is no .agent-queue in it; run `mkdir -p HOME/none/.agent-queue/inbox`"
    );
}

#[test]
fn without_configuration_the_nearest_parent_with_a_queue_is_the_project() {
    let home = Home::new();
    let outer = home.project("outer");
    let inner = home.project("outer/a/inner");
    let from = |dir: &str| {
        let environment = Environment::of([("HOME", home.path(""))], home.path(dir));
        let config = Config::load(&Overrides::default(), &environment).unwrap();
        project_dirs(&config, &silent())
    };
    assert_eq!(from("outer/a/inner/deep/er").unwrap(), [inner]);
    assert_eq!(from("outer/a").unwrap(), std::slice::from_ref(&outer));
    assert_eq!(from("outer").unwrap(), [outer]);
    assert_eq!(
        home.sentence(&from("elsewhere").unwrap_err()),
        "there is no .agent-queue in HOME/elsewhere or above it; run `mkdir -p HOME/elsewhere/.agent-queue/inbox`, \
         or name a projects_dir in ~/.config/ccl/config.yaml"
    );
}

#[test]
fn a_projects_dir_that_is_not_there_is_an_error() {
    let home = Home::with("dispatcher: {projects_dir: ~/none}");
    assert_eq!(
        refused(&home, &Overrides::default()),
        "cannot look for projects in HOME/none: it does not exist"
    );
}
