//! The README's table of threats is true as far as its names go: each test in it is there.

use std::fs;
use std::path::Path;

#[test]
fn every_test_in_the_table_of_threats_is_there_under_its_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("there is a README");
    let (_, chapter) = readme.split_once("\n## Threats\n").expect("it has a chapter of threats");
    let chapter = chapter.split("\n## ").next().expect("it has a beginning");
    let rows: Vec<&str> = chapter.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 30, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [_, _, _, tests] = cells[..] else { panic!("not four cells: {row}") };
        let mut named = tests.split('`').skip(1).step_by(2).peekable();
        if named.peek().is_none() {
            wrong.push(format!("no test: {row}"));
        }
        for test in named {
            // file.rs: its tests, or one of them.
            let (file, name) = test.split_once(' ').unwrap_or((test, ""));
            let file = if file.starts_with("src/") {
                root.join(file)
            } else {
                root.join("tests").join(file)
            };
            let text = fs::read_to_string(file).unwrap_or_default();
            let is_there = match name {
                "" => text.contains("#[test]") || text.contains("#[tokio::test"),
                name => text.contains(&format!("fn {name}(")),
            };
            if !is_there {
                wrong.push(format!("{test} is not there: {row}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
