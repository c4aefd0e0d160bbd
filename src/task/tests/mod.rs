use super::*;

mod ending;
mod fields;
mod first_bytes;
mod header;

fn with_header(fields: &str) -> Task {
    parse(&format!("---\n{fields}\n---\nDo it.\n"))
}

fn warnings(task: &Task) -> Vec<String> {
    task.warnings.iter().map(Warning::to_string).collect()
}

/// The only warning of a header, which must exist.
fn warning(fields: &str) -> String {
    let task = with_header(fields);
    assert_eq!(task.warnings.len(), 1, "{:?}", task.warnings);
    task.warnings[0].to_string()
}
