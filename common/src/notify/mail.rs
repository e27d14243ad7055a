//! Notices as e-mails: what SNS sends to those who subscribed by address.

use std::fmt::Write as _;

use super::outline::Outline;
use super::text::{cut, one_line};

/// Characters of a subject; SNS wants fewer than 100, in ASCII and on one line.
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
const LONGEST_SUBJECT: usize = 99;

/// Characters of one fact: a body has nothing near SNS's limit of 256 KiB.
const LONGEST_FACT: usize = 2000;

/// An e-mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// ASCII without control characters, at most 99 characters.
    pub subject: String,
    /// Lines of plain text.
    pub body: String,
}

/// Lays out an e-mail: the same as in Slack, in the same order.
pub(super) fn lay_out(outline: &Outline, environment: &str) -> Mail {
    let mut body = format!("{}\n", cut(&outline.title, LONGEST_FACT));
    let mut paragraph = |text: &str| {
        // Writing to a String can't fail.
        let _ = write!(body, "\n{text}\n");
    };
    if !outline.lead.is_empty() {
        paragraph(&outline.lead);
    }
    let facts = outline.facts.iter().map(|(label, value)| {
        let value = cut(value, LONGEST_FACT);
        let separator = if value.contains('\n') { "\n  " } else { " " };
        format!("{label}:{separator}{}", value.replace('\n', "\n  "))
    });
    paragraph(&facts.collect::<Vec<_>>().join("\n"));
    if let Some((whose, text)) = &outline.quote {
        paragraph(&format!("{whose}:\n{text}"));
    }
    if let Some(command) = &outline.command {
        paragraph(&format!("Look into it:\n  {}", cut(command, LONGEST_FACT)));
    }
    Mail { subject: subject(&format!("[bottles {environment}] {}", outline.title)), body }
}

fn subject(text: &str) -> String {
    let text = one_line(text).replace('…', "...");
    let ascii = text.chars().map(|c| if c.is_ascii() { c } else { '?' });
    ascii.take(LONGEST_SUBJECT).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Alarm, Notice};
    use super::*;

    #[test]
    fn a_mail_reads_from_the_top() {
        let notice = Notice::ProducerFailed { action: "settle", error: "one\r\ntwo\u{7}".to_owned() };
        let Mail { subject, body } = notice.mail("prod");
        assert_eq!(subject, "[bottles prod] The producer failed to settle");
        assert_eq!(
            body,
            "The producer failed to settle\n\nEnvironment: prod\n\nError:\none\ntwo\n\n\
             Look into it:\n  bottles status --stack prod\n"
        );
    }

    #[test]
    fn a_subject_is_what_sns_takes_whatever_an_alarm_is_called() {
        for name in ["a\nb\u{0}c", "Größe — zu groß", &"x".repeat(5000), &"ü ".repeat(500), "\t"] {
            let alarm = serde_json::json!({ "AlarmName": name, "NewStateValue": "OK" }).to_string();
            let subject = Notice::Alarm(Alarm::parse(&alarm).unwrap()).mail("prod").subject;
            assert!(subject.len() < 100 && subject.is_ascii(), "{subject:?}");
            assert!(!subject.chars().any(char::is_control), "{subject:?}");
            assert!(subject.starts_with("[bottles prod] Recovered:"), "{subject:?}");
        }
    }

    #[test]
    fn facts_of_several_lines_are_set_in() {
        let facts = vec![("Dead letters", "2 not-found\n1 crashed".to_owned())];
        let outline =
            Outline { title: "T".to_owned(), lead: "Lead.".to_owned(), facts, quote: None, command: None };
        let body = lay_out(&outline, "e").body;
        assert_eq!(body, "T\n\nLead.\n\nDead letters:\n  2 not-found\n  1 crashed\n");
    }
}
