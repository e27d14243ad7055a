//! README.md's table of variables is the one that the code has.

use common::config;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
const BEGIN: &str = "--test it readme -->\n";
const END: &str = "<!-- end -->";

#[test]
fn readme_has_the_table_of_variables() {
    let text = std::fs::read_to_string(PATH).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    let expected = format!("\n{}\n", config::table());
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(PATH, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert!(
        found == expected,
        "the table in README.md is out of date: UPDATE_README=1 cargo test -p common --test it readme"
    );
}
