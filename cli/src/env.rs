//! `bottles env`: what a client of a mirror exports.

use std::io::Write as _;
use std::path::Path;

use clap::ValueEnum;
use url::{Host, Url};

use crate::args::EnvOptions;
use crate::output::{Exit, Usage, line};

/// For what the variables are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Sh,
    Bash,
    Zsh,
    Fish,
    Csh,
    Powershell,
    /// Lines for the file that `$GITHUB_ENV` names.
    Github,
    /// Lines of a `.env` file.
    Dotenv,
}

/// How brew asks for a bottle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// As it asks ghcr.io.
    Oci,
    /// By the bottle's flat name, at the root.
    Flat,
}

pub(crate) fn run(options: &EnvOptions) -> anyhow::Result<Exit> {
    let url = checked(&options.url).map_err(|why| Usage(format!("--url: {why}")))?;
    let shell = options.shell.unwrap_or_else(|| {
        let login = std::env::var("SHELL").unwrap_or_default();
        Shell::named(&login)
    });
    if is_readable_on_the_way(&url) {
        // A reader that went away is no error.
        let _ = writeln!(
            std::io::stderr(),
            "bottles: warning: {url} is not encrypted: brew checks the API files' signatures and the bottles' \
             digests, but others on the way can read along"
        );
    }
    let url = url.as_str().trim_end_matches('/');
    if let Some(how) = shell.loading(&command(url, options)) {
        line(format_args!("# {how}"));
    }
    for (name, value) in variables(url, options.layout) {
        line(shell.assignment(name, &value));
    }
    Ok(Exit::Done)
}

/// The URL of a mirror, or why it is none. What is said doesn't repeat the URL.
fn checked(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("{error}; it takes a URL such as https://mirror.example.com"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it takes an http or https URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it takes no user and no password: every program here would see them".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it takes no query and no fragment: paths are put behind it".to_owned());
    }
    Ok(url)
}

fn is_readable_on_the_way(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !is_here
}

fn variables(url: &str, layout: Layout) -> Vec<(&'static str, String)> {
    let mut all = vec![("HOMEBREW_API_DOMAIN", format!("{url}/api"))];
    match layout {
        Layout::Oci => {
            all.push(("HOMEBREW_ARTIFACT_DOMAIN", url.to_owned()));
            all.push(("HOMEBREW_ARTIFACT_DOMAIN_NO_FALLBACK", "1".to_owned()));
        }
        Layout::Flat => all.push(("HOMEBREW_BOTTLE_DOMAIN", url.to_owned())),
    }
    // Else brew sends an Authorization header, which not every server takes.
    all.push(("HOMEBREW_DOCKER_REGISTRY_BASIC_AUTH_TOKEN", "none".to_owned()));
    all
}

/// The command that prints this again, in words that every shell takes the same way
/// but for the URL's quotes.
fn command(url: &str, options: &EnvOptions) -> Command {
    let mut rest = String::new();
    if let Some(shell) = options.shell.as_ref().and_then(ValueEnum::to_possible_value) {
        rest.push_str(" --shell ");
        rest.push_str(shell.get_name());
    }
    if options.layout == Layout::Flat {
        rest.push_str(" --layout flat");
    }
    Command { url: url.to_owned(), rest }
}

struct Command {
    url: String,
    rest: String,
}

impl Command {
    fn text(&self, shell: Shell) -> String {
        let quoted = if is_plain(&self.url) { self.url.clone() } else { shell.quoted(&self.url) };
        format!("bottles env --url {quoted}{}", self.rest)
    }
}

impl Shell {
    /// The shell of a program's path.
    fn named(path: &str) -> Self {
        let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name {
            "bash" => Self::Bash,
            "zsh" => Self::Zsh,
            "fish" => Self::Fish,
            "csh" | "tcsh" | "bsd-csh" => Self::Csh,
            "pwsh" | "powershell" => Self::Powershell,
            _ => Self::Sh,
        }
    }

    /// How a shell loads what is printed; `None` for files.
    fn loading(self, command: &Command) -> Option<String> {
        let command = command.text(self);
        match self {
            Self::Sh | Self::Bash | Self::Zsh => Some(format!("eval \"$({command})\"")),
            Self::Fish => Some(format!("{command} | source")),
            // Its eval would make one line of all, and this comment of that.
            Self::Csh => Some(format!("{command} | source /dev/stdin")),
            Self::Powershell => Some(format!("{command} | Out-String | Invoke-Expression")),
            Self::Github | Self::Dotenv => None,
        }
    }

    fn assignment(self, name: &str, value: &str) -> String {
        let value = self.quoted(value);
        match self {
            Self::Sh | Self::Bash | Self::Zsh => format!("export {name}={value}"),
            Self::Fish => format!("set -gx {name} {value}"),
            Self::Csh => format!("setenv {name} {value}"),
            Self::Powershell => format!("$env:{name} = {value}"),
            Self::Github | Self::Dotenv => format!("{name}={value}"),
        }
    }

    /// A value that holds no line's end, as one word of the shell's.
    fn quoted(self, value: &str) -> String {
        match self {
            Self::Sh | Self::Bash | Self::Zsh => format!("'{}'", value.replace('\'', r"'\''")),
            Self::Fish => format!("'{}'", escaped(value, r"\'")),
            // Its history is looked up in single quotes too.
            Self::Csh => format!("'{}'", value.replace('\'', r"'\''").replace('!', r"\!")),
            Self::Powershell => format!("'{}'", value.replace('\'', "''")),
            Self::Github => value.to_owned(),
            // Docker's --env-file takes quotes for a part of the value.
            Self::Dotenv if is_plain(value) => value.to_owned(),
            Self::Dotenv => format!("\"{}\"", escaped(value, "\\\"$`")),
        }
    }
}

/// Whether a value is one word as it is, wherever it is read.
fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/%@+".contains(&byte))
}

/// With a backslash before each of `special`.
fn escaped(value: &str, special: &str) -> String {
    let mut text = String::new();
    for c in value.chars() {
        if special.contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_known_by_its_programs_name() {
        for (path, shell) in [
            ("/bin/bash", Shell::Bash),
            ("/usr/local/bin/fish", Shell::Fish),
            ("zsh", Shell::Zsh),
            ("/bin/tcsh", Shell::Csh),
            ("/opt/microsoft/powershell/7/pwsh", Shell::Powershell),
            ("/bin/dash", Shell::Sh),
            ("/bin/ksh", Shell::Sh),
            ("", Shell::Sh),
        ] {
            assert_eq!(Shell::named(path), shell, "{path}");
        }
    }

    #[test]
    fn what_a_shell_would_change_is_quoted_its_own_way() {
        let value = r#"a'b"c$d`e\f!g h"#;
        for (shell, quoted) in [
            (Shell::Sh, r#"'a'\''b"c$d`e\f!g h'"#),
            (Shell::Fish, r#"'a\'b"c$d`e\\f!g h'"#),
            (Shell::Csh, r#"'a'\''b"c$d`e\f\!g h'"#),
            (Shell::Powershell, r#"'a''b"c$d`e\f!g h'"#),
            (Shell::Github, value),
            (Shell::Dotenv, r#""a'b\"c\$d\`e\\f!g h""#),
        ] {
            assert_eq!(shell.quoted(value), quoted, "{shell:?}");
        }
        assert_eq!(Shell::Dotenv.quoted("http://[::1]:8080/a"), "\"http://[::1]:8080/a\"");
        assert_eq!(Shell::Dotenv.quoted("http://mirror.lan:8080/a@b"), "http://mirror.lan:8080/a@b");
    }

    #[test]
    fn only_what_leaves_the_machine_in_the_clear_can_be_read_on_the_way() {
        for (url, readable) in [
            ("http://mirror.lan:8080", true),
            ("http://10.0.0.7", true),
            ("http://localhost.example.com", true),
            ("https://mirror.lan", false),
            ("http://localhost:8080", false),
            ("http://mirror.localhost", false),
            ("http://127.0.0.1:8080", false),
            ("http://[::1]", false),
            ("http://[::ffff:127.0.0.1]", false),
        ] {
            assert_eq!(is_readable_on_the_way(&url.parse().unwrap()), readable, "{url}");
        }
    }
}
