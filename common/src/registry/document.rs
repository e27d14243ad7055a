//! A document that an operator names by its URL.

use reqwest::Method;
use url::Url;

use super::{Ask, Download, Error, Upstream, answer};

impl Upstream {
    /// Opens a document once, without Authorization; compressed on the way where the
    /// server can. Whoever reads it decides about another attempt.
    pub async fn document(&self, url: &Url) -> Result<Download, Error> {
        let ask = Ask { compressed: true, ..Ask::default() };
        let response = self.ask(Method::GET, url, &ask).await?;
        Ok(Download::new(response, answer::describe(url)))
    }
}
