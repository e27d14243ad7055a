//! The tables in the documents are the ones that the code has.

use common::{config, metrics};

const END: &str = "<!-- end -->";

#[test]
fn readme_has_the_table_of_variables() {
    check("README.md", &config::table());
}

#[test]
fn the_metrics_document_has_the_table_of_metrics() {
    check("docs/metrics.md", &metrics::table());
}

/// Between its two marks the document holds `table`; written there if asked to.
fn check(document: &str, table: &str) {
    const BEGIN: &str = "--test it readme -->\n";
    let path = format!("{}/../{document}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    let expected = format!("\n{table}\n");
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert!(
        found == expected,
        "the table in {document} is out of date: UPDATE_README=1 cargo test -p common --test it readme"
    );
}
