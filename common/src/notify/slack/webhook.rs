//! The webhook's URL, as the secret holds it.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

use crate::registry::is_loopback;

/// The webhook in a secret's value; the error is what is wrong with it.
pub(super) fn read(value: &SecretString) -> Result<SecretString, &'static str> {
    let text = value.expose_secret().trim();
    let webhook = if text.starts_with('{') {
        let object: Value = serde_json::from_str(text).map_err(|_| "it is no JSON")?;
        let url = object.get("webhook_url").ok_or("its JSON has no webhook_url")?;
        SecretString::from(url.as_str().ok_or("its webhook_url is no text")?.trim())
    } else {
        SecretString::from(text)
    };
    parse(webhook.expose_secret())?;
    Ok(webhook)
}

/// Only https, so that nobody on the way reads the secret; this machine may be
/// spoken to in plain text.
pub(super) fn parse(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it is no URL")?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err("it is no https URL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_url_or_an_object_with_one() {
        let read = |text: &str| read(&SecretString::from(text)).map(|url| url.expose_secret().to_owned());
        let url = "https://hooks.slack.com/services/T0/B0/x";
        assert_eq!(read(url).as_deref(), Ok(url));
        assert_eq!(read(&format!(" {url}\n")).as_deref(), Ok(url));
        assert_eq!(read(&format!("{{\"webhook_url\": \"{url}\", \"else\": 1}}")).as_deref(), Ok(url));
        for local in ["http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:9/x"] {
            assert_eq!(read(local).as_deref(), Ok(local));
        }
        for text in [
            "",
            "x",
            "{}",
            "{\"webhook_url\": 7}",
            "{\"webhook_url\": \"ftp://h/x\"}",
            "{\"webhook_url\"",
            "http://hooks.slack.com/services/T0/B0/x",
            "http://127.0.0.1.example/x",
            "file:///etc/passwd",
            "https://",
        ] {
            assert!(read(text).is_err(), "{text:?} was taken");
        }
    }
}
