//! Retirement: what upstream no longer lists is tagged as superseded, and expires
//! after a grace.
//!
//! A plan that read every catalogue takes note of what they dropped and of what came
//! back ([`mark`], [`bring_back`]). Settle tags what is dropped, once no API file that
//! is published, or that a rollback would publish, names it any more.

mod mark;
mod settle;

pub use mark::{Listed, Returned, bring_back, mark};
pub use settle::{Blocked, Outlook, Retired, expire, outlook, retire};
