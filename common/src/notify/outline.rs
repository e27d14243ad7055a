//! A notice in parts, before it is laid out for Slack or for e-mail.

/// What a notice says, before it is laid out for a channel.
pub(super) struct Outline {
    /// What happened; one line.
    pub(super) title: String,
    /// What it means; empty where the title says it.
    pub(super) lead: String,
    /// Labels and values, in the order of their weight.
    pub(super) facts: Vec<(&'static str, String)>,
    /// Someone else's words, and whose they are.
    pub(super) quote: Option<(&'static str, String)>,
    /// The command that looks into it, where someone should.
    pub(super) command: Option<String>,
}
