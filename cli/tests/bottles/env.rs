//! What a client exports is what its shell then has.

use std::path::Path;
use std::process::Command;

use crate::harness::{Output, Running, bare};

const NAMES: [&str; 5] = [
    "HOMEBREW_API_DOMAIN",
    "HOMEBREW_ARTIFACT_DOMAIN",
    "HOMEBREW_ARTIFACT_DOMAIN_NO_FALLBACK",
    "HOMEBREW_BOTTLE_DOMAIN",
    "HOMEBREW_DOCKER_REGISTRY_BASIC_AUTH_TOKEN",
];

/// What the shells would do something with, as far as a URL holds it.
const ODD: &str = "https://mirror.example.com/it's/$HOME/a!b/(c)*;d&e~[f]";

fn env(args: &[&str]) -> Output {
    let mut command = bare(&[&["env"], args].concat());
    command.env_remove("SHELL");
    Running::start(command).wait()
}

/// The variables of a client that did what the first line says; `None` if its shell
/// is not on this machine.
fn loaded(shell: &str, args: &[&str]) -> Option<Vec<String>> {
    let output = env(args).expect(0);
    let how = output.stdout.lines().next().unwrap().strip_prefix("# ").unwrap().to_owned();
    let programs = Path::new(env!("CARGO_BIN_EXE_bottles")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let (options, print): (&[&str], fn(&str) -> String) = match shell {
        "tcsh" | "csh" | "bsd-csh" => (&["-f", "-c"], |name| format!("printenv {name} || echo absent")),
        "pwsh" => (&["-NoProfile", "-Command"], |name| {
            format!("if (Test-Path env:{name}) {{ $env:{name} }} else {{ 'absent' }}")
        }),
        _ => (&["-c"], |name| format!("printenv {name} || echo absent")),
    };
    let script: Vec<_> = [how].into_iter().chain(NAMES.map(print)).collect();
    let mut command = Command::new(shell);
    command.args(options).arg(script.join("\n")).env("PATH", path).env_remove("SHELL");
    for name in NAMES {
        command.env_remove(name);
    }
    let run = match command.output() {
        Ok(run) => run,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{shell}: {error}"),
    };
    assert!(run.stderr.is_empty(), "{shell}: {}", String::from_utf8_lossy(&run.stderr));
    Some(String::from_utf8(run.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[test]
fn each_shell_loads_what_the_first_line_says() {
    let mut tried = Vec::new();
    for (program, shell) in [
        ("sh", "sh"),
        ("dash", "sh"),
        ("bash", "bash"),
        ("zsh", "zsh"),
        ("fish", "fish"),
        ("tcsh", "csh"),
        ("bsd-csh", "csh"),
        ("pwsh", "powershell"),
    ] {
        for url in ["https://mirror.example.com:8443", "https://mirror.example.com/brew/", ODD] {
            let Some(got) = loaded(program, &["--url", url, "--shell", shell]) else { continue };
            let url = url.trim_end_matches('/');
            assert_eq!(got, [&format!("{url}/api"), url, "1", "absent", "none"], "{program}");
            let flat = loaded(program, &["--url", url, "--layout", "flat", "--shell", shell]).unwrap();
            assert_eq!(flat, [&format!("{url}/api"), "absent", "absent", url, "none"], "{program}");
            tried.push(program);
        }
    }
    assert!(tried.contains(&"sh"), "{tried:?}");
}

#[test]
fn the_shell_is_the_one_that_is_named_else_the_users_own() {
    let first = |args: &[&str], login: Option<&str>| {
        let mut command = bare(&[&["env", "--url", "https://mirror.example.com"], args].concat());
        command.env_remove("SHELL");
        command.envs(login.map(|login| ("SHELL", login)));
        let output = Running::start(command).wait().expect(0);
        assert!(output.stderr.is_empty(), "{output}");
        output.stdout.lines().nth(1).unwrap().to_owned()
    };
    assert!(first(&[], None).starts_with("export "));
    assert!(first(&[], Some("/usr/bin/fish")).starts_with("set -gx "));
    assert!(first(&[], Some("/bin/tcsh")).starts_with("setenv "));
    assert!(first(&[], Some("/bin/unheard-of")).starts_with("export "));
    assert!(first(&["--shell", "powershell"], Some("/usr/bin/fish")).starts_with("$env:"));
}

#[test]
fn files_have_their_lines_and_nothing_else() {
    let github = env(&["--url", "https://mirror.example.com/", "--shell", "github"]).expect(0);
    assert_eq!(
        github.stdout,
        "HOMEBREW_API_DOMAIN=https://mirror.example.com/api\n\
         HOMEBREW_ARTIFACT_DOMAIN=https://mirror.example.com\n\
         HOMEBREW_ARTIFACT_DOMAIN_NO_FALLBACK=1\n\
         HOMEBREW_DOCKER_REGISTRY_BASIC_AUTH_TOKEN=none\n"
    );
    let dotenv = env(&["--url", ODD, "--shell", "dotenv", "--layout", "flat"]).expect(0);
    let odd = ODD.replace('$', "\\$");
    assert_eq!(
        dotenv.stdout,
        format!(
            "HOMEBREW_API_DOMAIN=\"{odd}/api\"\nHOMEBREW_BOTTLE_DOMAIN=\"{odd}\"\n\
             HOMEBREW_DOCKER_REGISTRY_BASIC_AUTH_TOKEN=none\n"
        )
    );
    // Docker takes quotes for a part of the value: there are none where none are needed.
    let docker = env(&["--url", "https://mirror.example.com", "--shell", "dotenv"]).expect(0);
    assert_eq!(docker.stdout, github.stdout);
}

#[test]
fn what_is_no_mirrors_url_is_refused_without_repeating_it() {
    for (url, word) in [
        ("mirror.example.com", "URL"),
        ("", "URL"),
        ("ftp://mirror.example.com", "http"),
        ("file:///srv/mirror", "http"),
        ("https://", "host"),
        ("https://mirror.example.com/?x=secret", "query"),
        ("https://mirror.example.com/?", "query"),
        ("https://mirror.example.com/#secret", "fragment"),
        ("https://secret@mirror.example.com", "password"),
        ("https://me:secret@mirror.example.com", "password"),
        ("https://me:secret@", "host"),
    ] {
        let output = env(&["--url", url]).expect(2);
        assert!(output.stderr.contains("--url") && output.stderr.contains(word), "{url}: {output}");
        assert!(!output.stderr.contains("secret") && output.stdout.is_empty(), "{url}: {output}");
    }
    assert!(env(&[]).expect(2).stderr.contains("--url"));
    let shell = env(&["--url", "https://mirror.example.com", "--shell", "cmd"]).expect(2);
    assert!(shell.stderr.contains("powershell"), "{shell}");
}

#[test]
fn a_url_that_others_can_read_along_is_warned_of() {
    let open = env(&["--url", "http://mirror.lan:8080"]).expect(0);
    assert_eq!(open.stderr.lines().count(), 1, "{open}");
    assert!(open.stderr.contains("not encrypted") && open.stderr.contains("signatures"), "{open}");
    assert!(open.stdout.contains("HOMEBREW_ARTIFACT_DOMAIN='http://mirror.lan:8080'"), "{open}");
    for url in ["http://127.0.0.1:8080", "http://localhost:8080", "https://mirror.lan"] {
        assert!(env(&["--url", url]).expect(0).stderr.is_empty(), "{url}");
    }
}
