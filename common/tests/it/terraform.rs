//! What every module of Terraform has: its files, described and checked variables,
//! a README with both in it, and for each alarm a section of the runbook.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const BEGIN: &str = "<!-- made from variables.tf and outputs.tf -->\n";
const END: &str = "<!-- end -->";

/// A block of HCL: what stands before its brace, and its lines.
struct Block {
    name: String,
    lines: Vec<String>,
}

impl Block {
    /// The value of an argument of its own, on one line or some.
    fn argument(&self, name: &str) -> Option<String> {
        let begins = |line: &String| {
            line.strip_prefix("  ")
                .and_then(|line| line.strip_prefix(name))
                .is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        let at = self.lines.iter().position(begins)?;
        let first = self.lines[at].split_once('=')?.1.trim().to_owned();
        let opens = |text: &str| text.matches(['{', '[', '(']).count();
        let closes = |text: &str| text.matches(['}', ']', ')']).count();
        let mut value = first;
        for line in &self.lines[at + 1..] {
            if opens(&value) <= closes(&value) {
                break;
            }
            value = format!("{value} {}", line.trim());
        }
        Some(value)
    }

    fn text(&self, name: &str) -> Option<String> {
        let value = self.argument(name)?;
        let text = value.strip_prefix('"')?.strip_suffix('"')?;
        Some(text.replace("\\\"", "\"").replace('|', "\\|"))
    }

    fn has_block(&self, name: &str) -> bool {
        self.lines.iter().any(|line| line.trim() == format!("{name} {{"))
    }
}

/// The blocks of a kind in a file, in their order.
fn blocks(path: &Path, kind: &str) -> Vec<Block> {
    let text = fs::read_to_string(path).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut within = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix(&format!("{kind} \"")) {
            within = true;
            let name = rest.split('"').next().unwrap().to_owned();
            blocks.push(Block { name, lines: Vec::new() });
        } else if line == "}" {
            within = false;
        } else if within {
            blocks.last_mut().unwrap().lines.push(line.to_owned());
        }
    }
    blocks
}

fn terraform() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../terraform")
}

fn modules() -> Vec<PathBuf> {
    let entries = fs::read_dir(terraform().join("modules")).unwrap();
    let mut modules: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    modules.sort();
    assert_eq!(modules.len(), 11);
    modules
}

#[test]
fn a_module_has_its_files_and_no_others() {
    for module in modules() {
        let mut found: Vec<_> = fs::read_dir(&module)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        found.sort();
        let expected = ["README.md", "main.tf", "outputs.tf", "tests", "variables.tf", "versions.tf"];
        assert_eq!(found, expected, "{}", module.display());
        let tests = fs::read_dir(module.join("tests")).unwrap();
        let count =
            tests.filter(|test| test.as_ref().unwrap().path().to_string_lossy().ends_with(".tftest.hcl"));
        assert!(count.count() > 0, "{} has no test", module.display());
    }
}

#[test]
fn variables_are_described_and_checked() {
    for folder in modules().into_iter().chain([terraform()]) {
        for variable in blocks(&folder.join("variables.tf"), "variable") {
            let place = format!("{}: {}", folder.display(), variable.name);
            let description = variable.text("description").unwrap_or_default();
            assert!(description.ends_with(['.', ')', '…']), "{place} is not described in a sentence");
            let kind = variable.argument("type").unwrap_or_else(|| panic!("{place} has no type"));
            // A truth is checked by its type; what another variable makes count is checked with it.
            let conditional = description.contains("looked at where");
            assert!(
                kind == "bool" || conditional || variable.has_block("validation"),
                "{place} is not validated"
            );
        }
        for output in blocks(&folder.join("outputs.tf"), "output") {
            assert!(output.text("description").is_some(), "{}: {}", folder.display(), output.name);
        }
    }
}

#[test]
fn a_readme_has_all_inputs_and_outputs() {
    for folder in modules().into_iter().chain([terraform()]) {
        let path = folder.join("README.md");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let Some((before, rest)) = text.split_once(BEGIN) else {
            panic!("{} has no mark {BEGIN}", path.display());
        };
        let (found, after) = rest.split_once(END).unwrap();
        let expected = tables(&folder);
        if std::env::var_os("UPDATE_README").is_some() {
            fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        } else {
            assert!(
                found == expected,
                "{} is out of date: UPDATE_README=1 cargo test --workspace --test it terraform",
                path.display()
            );
        }
    }
}

fn tables(folder: &Path) -> String {
    let mut tables = String::from("\n| input | type | default | meaning |\n| --- | --- | --- | --- |\n");
    for variable in blocks(&folder.join("variables.tf"), "variable") {
        let code = |value: Option<String>| value.map_or_else(String::new, |value| format!("`{value}`"));
        let default =
            variable.argument("default").map_or_else(|| "required".to_owned(), |value| code(Some(value)));
        let meaning = variable.text("description").unwrap();
        let kind = code(variable.argument("type")).replace("  ", " ");
        writeln!(tables, "| `{}` | {kind} | {default} | {meaning} |", variable.name).unwrap();
    }
    tables.push_str("\n| output | meaning |\n| --- | --- |\n");
    for output in blocks(&folder.join("outputs.tf"), "output") {
        writeln!(tables, "| `{}` | {} |", output.name, output.text("description").unwrap()).unwrap();
    }
    tables.push('\n');
    tables
}

/// The tests of the module hold that each alarm's description names a section of
/// docs/operating.md by its own name; here the sections are.
#[test]
fn every_alarm_has_its_section_in_the_runbook() {
    let tests =
        fs::read_to_string(terraform().join("modules/monitoring/tests/monitoring.tftest.hcl")).unwrap();
    let list = tests.split("aws_cloudwatch_metric_alarm.this)) == toset([").nth(1).unwrap();
    let list = list.split("])").next().unwrap();
    let mut alarms: BTreeSet<_> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(alarms.len() > 20);
    alarms.insert("large-unattended".to_owned());
    let runbook = fs::read_to_string(terraform().join("../docs/operating.md")).unwrap();
    let sections: BTreeSet<_> =
        runbook.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect();
    let missing: Vec<_> = alarms.difference(&sections).collect();
    assert!(missing.is_empty(), "docs/operating.md has no section for {missing:?}");
}

/// A plan checks every variable that is set; here that none is made up in the
/// stages' files, which Terraform only warns of.
#[test]
fn stages_set_variables_that_there_are() {
    let known: BTreeSet<_> =
        blocks(&terraform().join("variables.tf"), "variable").into_iter().map(|block| block.name).collect();
    for file in ["dev.tfvars", "staging.tfvars", "prod.tfvars", "terraform.tfvars.example"] {
        let text = fs::read_to_string(terraform().join(file)).unwrap();
        let mut heredoc = false;
        for line in text.lines() {
            let line = line.strip_prefix("# ").filter(|line| line.contains(" = ")).unwrap_or(line);
            if heredoc {
                heredoc = line.trim().trim_start_matches("# ") != "TOML";
            } else if let Some((name, value)) = line.split_once('=') {
                if name.starts_with([' ', '#']) {
                    continue;
                }
                heredoc = value.contains("<<-TOML");
                assert!(known.contains(name.trim()), "{file} sets {name}, which there is not");
            }
        }
    }
}

/// A statement about all resources is one too many, but where AWS knows no other:
/// a key's own policy, and the token of the registry. The tests of the modules hold
/// the statements; this holds that no file has another one.
#[test]
fn all_resources_are_meant_where_aws_knows_no_other() {
    let mut found = BTreeSet::new();
    for folder in modules().into_iter().chain([terraform()]) {
        let path = folder.join("main.tf");
        for line in fs::read_to_string(&path).unwrap().lines().map(str::trim) {
            let is_statement = line.contains("Resource") && line.contains("\"*\"");
            let is_action = line.contains("Action") && line.contains(":*\"") && !line.contains("Resource");
            if is_statement || is_action {
                let module = folder.file_name().unwrap().to_string_lossy().into_owned();
                found.insert(format!("{module}: {}", line.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
        }
    }
    let expected = [
        // The account's administrators, in the key's own policy.
        "notifications: Action = \"kms:*\"",
        "notifications: Resource = \"*\"",
        "iam: { Sid = \"LogInToTheRegistry\", Action = [\"ecr:GetAuthorizationToken\"], Resource = [\"*\"] }],",
        // Denied, all of it, over plain HTTP.
        "eventbridge: Action = \"sqs:*\"",
        "lambda: Action = \"sqs:*\"",
        "s3: Action = \"s3:*\"",
        "sqs: Action = \"sqs:*\"",
    ];
    assert_eq!(found, expected.into_iter().map(str::to_owned).collect());
}
