//! What the fuzzers found, and what they begin with, through the properties that they look for.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use crate::properties;

/// A corpus of so few files is not one that the fuzzers worked on.
const LEAST: usize = 10;

/// The names in a directory, without what follows their first point.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.split('.').next().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn every_target_has_its_corpus_and_no_other_is_left_out() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let mut targets = properties::TARGETS.map(|(name, _)| name);
    targets.sort_unstable();
    assert_eq!(names(&fuzz.join("targets")), targets);
    assert_eq!(names(&fuzz.join("corpus")), targets);
}

#[test]
fn every_file_of_every_corpus_holds() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut bad = Vec::new();
    for (target, check) in properties::TARGETS {
        let corpus = corpora.join(target);
        let mut read = 0;
        for entry in fs::read_dir(&corpus).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            // One that fails must not hide the others; the panic's own words stand above.
            if catch_unwind(|| check(&bytes)).is_err() {
                bad.push(path);
            }
            read += 1;
        }
        assert!(read >= LEAST, "{} has {read} files", corpus.display());
    }
    assert!(bad.is_empty(), "{bad:#?}");
}
