//! Retirement: what upstream no longer lists is tagged as superseded, and expires
//! after a grace.
//!
//! A plan that read every catalogue takes note of what they dropped and of what they
//! list again ([`mark`]). Settle supersedes what is dropped, once no API file that is
//! published, or that a rollback would publish, names it any more ([`supersede`]).
//!
//! A tag outlives the process that wrote it, and what is tagged goes: so the manifest
//! says first that a bottle is superseded, and the tag follows ([`tag`]); and only when
//! the tag is off does the manifest say no more that it is ([`bring_back`]). Settle alone
//! does both, and so whoever is killed in between, or loses a race for the manifest,
//! leaves no tag of which nobody knows.

mod mark;
mod outlook;
mod tag;

pub use mark::{Gone, Listed, look_for_gone, mark};
pub use outlook::{Blocked, Outlook, Retired, outlook, supersede};
pub use tag::{Tagged, bring_back, expire, is_untagged, tag};
