//! Looking takes no permission to write.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use testbed::Spec;

use crate::harness::{Mirror, Output, Running, number};
use crate::tree::picture;

/// Somebody who may read all of a mirror's folder, and write nothing of it.
struct Reader<'a> {
    mirror: &'a Mirror,
    /// Where root stands aside for somebody without rights, the program as that one can run it.
    program: Option<PathBuf>,
}

const NOBODY: u32 = 65_534;

impl<'a> Reader<'a> {
    fn of(mirror: &'a Mirror) -> Self {
        let set = |path: PathBuf, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let (here, dir) = (mirror.here(), mirror.dir());
        set(here.parent().unwrap().to_owned(), 0o755);
        set(mirror.temporary(), 0o777);
        chmod(&dir, "a-w,a+rX");
        let is_root = fs::metadata(&dir).unwrap().uid() == 0;
        let program = is_root.then(|| here.join("bottles"));
        if let Some(program) = &program {
            fs::copy(env!("CARGO_BIN_EXE_bottles"), program).unwrap();
            set(program.clone(), 0o755);
        }
        Self { mirror, program }
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = self.mirror.command(args);
        if let Some(program) = &self.program {
            let (here, temporary) = (self.mirror.here(), self.mirror.temporary());
            command = Command::new(program);
            command.args(args).env_clear().env("TMPDIR", temporary).current_dir(here).uid(NOBODY);
        }
        command.arg("--to").arg(self.mirror.dir());
        Running::start(command).wait()
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        // It could not be removed else.
        chmod(&self.mirror.dir(), "u+w");
    }
}

fn chmod(dir: &std::path::Path, mode: &str) {
    assert!(Command::new("chmod").args(["-R", mode]).arg(dir).status().unwrap().success());
}

#[test]
fn a_mirror_that_can_only_be_read_is_looked_at_all_the_same() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.upstream.plant(&Spec::demo_planted());
    mirror.sync(3, &[]);
    let looks: [&[&str]; 4] = [
        &["publish", "--json"],
        &["retire", "--dry-run", "--json"],
        &["dead-letters", "list", "--json"],
        &["verify", "--json"],
    ];
    let expected = looks.map(|args| mirror.run(args));
    let before = picture(&mirror.dir());

    let reader = Reader::of(&mirror);
    for (args, expected) in looks.iter().zip(expected) {
        let output = reader.run(args).expect(expected.code);
        if args[0] != "verify" {
            assert_eq!(output.json(), expected.json(), "{args:?}");
        }
    }
    let status = reader.run(&["status", "--json"]).expect(3).json();
    assert_eq!(number(&status, "/dead_letters"), 2);
    // What would change something is refused.
    for args in [&["publish", "--despite-dead"][..], &["dead-letters", "replay"], &["sync"]] {
        let output = reader.run(args);
        assert_eq!(output.code, 1, "{args:?}: {output}");
    }
    assert_eq!(picture(&mirror.dir()), before);
}
