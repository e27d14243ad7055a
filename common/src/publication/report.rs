//! What a settle came to, for clients.

use serde::{Deserialize, Serialize};

use crate::bottle::BottleTag;

use super::Scope;

/// What was published, and what waits for what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishReport {
    /// Scopes that clients read something new of.
    pub published: Vec<Scope>,
    /// Clients whose newest files wait.
    pub waiting: Vec<Waiting>,
}

/// A client whose newest files wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The client.
    pub client: BottleTag,
    /// Its bottles that are on their way.
    pub queued: u64,
    /// Its bottles that were given up on.
    pub dead: u64,
    /// Its bottles that could not be planned.
    pub unplanned: u64,
    /// Its bottles whose image index, or whose flat name, is not in place.
    pub unnamed: u64,
}

impl Waiting {
    pub(crate) fn of(client: &BottleTag) -> Self {
        Self { client: client.clone(), queued: 0, dead: 0, unplanned: 0, unnamed: 0 }
    }

    /// What is waited for, in words: `2 on their way, 1 given up on`.
    pub fn describe(&self) -> String {
        let parts = [
            (self.queued, "on their way"),
            (self.dead, "given up on"),
            (self.unplanned, "not planned"),
            (self.unnamed, "without their index or flat name"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<_> = parts.map(|(count, what)| format!("{count} {what}")).collect();
        if parts.is_empty() { "nothing: it is held back by a rollback".to_owned() } else { parts.join(", ") }
    }

    /// Whether all bottles are there, under whatever names.
    pub(crate) fn has_all(&self, despite_dead: bool) -> bool {
        let given_up = if despite_dead { 0 } else { self.dead + self.unplanned };
        self.queued + given_up == 0
    }

    /// Whether all that could come is there, and something was given up on.
    pub(crate) fn is_stuck(&self) -> bool {
        self.queued + self.unnamed == 0 && self.dead + self.unplanned > 0
    }

    /// Whether nothing is waited for.
    pub(crate) fn is_over(&self, despite_dead: bool) -> bool {
        self.unnamed == 0 && self.has_all(despite_dead)
    }
}
