//! Notices in Slack's Block Kit.

use serde_json::{Value, json};

use super::outline::Outline;
use super::text::{assemble, cut};

/// Characters of a header.
/// <https://docs.slack.dev/reference/block-kit/blocks/header-block>
const LONGEST_HEADER: usize = 150;

/// Characters of a section's text, and of one of its fields; fields of a section.
/// <https://docs.slack.dev/reference/block-kit/blocks/section-block>
const LONGEST_TEXT: usize = 3000;
const LONGEST_FIELD: usize = 2000;
const MOST_FIELDS: usize = 10;

/// Lays out a message: what happened, what it means, the facts, what was said,
/// and the command. Six blocks at most, of the 50 that one message takes.
pub(super) fn lay_out(outline: &Outline, environment: &str) -> Value {
    let header = json!({ "type": "plain_text", "text": cut(&outline.title, LONGEST_HEADER), "emoji": false });
    let mut blocks = vec![json!({ "type": "header", "text": header })];
    if !outline.lead.is_empty() {
        blocks.push(section(&escape(&outline.lead, LONGEST_TEXT)));
    }
    for facts in outline.facts.chunks(MOST_FIELDS) {
        let fields = facts.iter().map(|(label, value)| {
            let label = format!("*{label}*\n");
            mrkdwn(&format!("{label}{}", escape(value, LONGEST_FIELD - label.chars().count())))
        });
        blocks.push(json!({ "type": "section", "fields": fields.collect::<Vec<_>>() }));
    }
    if let Some((whose, text)) = &outline.quote {
        let (before, after) = (format!("*{whose}*\n```\n"), "\n```");
        let room = LONGEST_TEXT - before.chars().count() - after.chars().count();
        blocks.push(section(&format!("{before}{}{after}", code(text, room))));
    }
    if let Some(command) = &outline.command {
        blocks.push(section(&format!("Look into it: `{}`", code(command, LONGEST_TEXT / 2))));
    }
    // What a phone's lock screen shows, where blocks are not.
    let fallback = escape(&format!("[{environment}] {}", outline.title), LONGEST_TEXT);
    json!({ "text": fallback, "blocks": blocks })
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": mrkdwn(text) })
}

/// Verbatim: an error that holds `@here` or `#general` must not call anyone.
fn mrkdwn(text: &str) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

/// Escapes Slack's control characters.
/// <https://docs.slack.dev/messaging/formatting-message-text#escaping>
fn escape(text: &str, most: usize) -> String {
    let escaped = text.chars().map(|c| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        other => other.to_string(),
    });
    assemble(escaped, most)
}

/// Text for between backticks, which nothing in it may end.
fn code(text: &str, most: usize) -> String {
    escape(&text.replace('`', "'"), most)
}

#[cfg(test)]
mod tests {
    use super::super::Alarm;
    use super::super::Notice;
    use super::*;

    fn texts(payload: &Value) -> Vec<String> {
        let mut texts = Vec::new();
        for block in payload["blocks"].as_array().unwrap() {
            let fields = block["fields"].as_array().cloned().unwrap_or_default();
            for object in fields.iter().chain(block.get("text")) {
                texts.push(object["text"].as_str().unwrap().to_owned());
            }
        }
        texts
    }

    #[test]
    fn a_message_has_a_fallback_a_header_fields_and_a_command() {
        let notice = Notice::ProducerFailed { action: "plan", error: "no `catalogue`".to_owned() };
        let expected = json!({
            "text": "[prod] The producer failed to plan",
            "blocks": [
                { "type": "header", "text": {
                    "type": "plain_text", "text": "The producer failed to plan", "emoji": false } },
                { "type": "section", "fields": [
                    { "type": "mrkdwn", "text": "*Environment*\nprod", "verbatim": true } ] },
                { "type": "section", "text": {
                    "type": "mrkdwn", "text": "*Error*\n```\nno 'catalogue'\n```", "verbatim": true } },
                { "type": "section", "text": {
                    "type": "mrkdwn", "text": "Look into it: `bottles status --stack prod`", "verbatim": true } },
            ]
        });
        assert_eq!(notice.blocks("prod"), expected);
    }

    #[test]
    fn control_characters_are_escaped_everywhere_but_in_the_header() {
        let alarm = json!({
            "AlarmName": "<!here> & co", "NewStateValue": "ALARM", "AlarmDescription": "a <b> & c",
            "NewStateReason": "```<!channel>```", "Region": "<@U1>",
            "Trigger": { "Dimensions": [{ "name": "<n>", "value": "<v>" }] },
        });
        let payload = Notice::Alarm(Alarm::parse(&alarm.to_string()).unwrap()).blocks("<e>");
        assert_eq!(payload["text"], "[&lt;e&gt;] Alarm: &lt;!here&gt; &amp; co");
        let texts = texts(&payload);
        assert_eq!(texts[0], "Alarm: <!here> & co", "a plain text shows what it holds");
        for text in &texts[1..] {
            assert!(!text.contains(['<', '>']), "{text}");
        }
        assert!(texts.contains(&"a &lt;b&gt; &amp; c".to_owned()), "{texts:?}");
        assert!(
            texts.contains(&"*Reason*\n```\n'''&lt;!channel&gt;'''\n```".to_owned()),
            "what was said does not end its code block: {texts:?}"
        );
    }

    #[test]
    fn the_longest_texts_stay_within_slacks_limits() {
        let long = "&ä".repeat(10_000);
        let dimensions: Vec<_> = (0..100).map(|_| json!({ "name": long, "value": long })).collect();
        let alarm = json!({
            "AlarmName": long, "NewStateValue": "ALARM", "AlarmDescription": long, "NewStateReason": long,
            "Region": long, "Trigger": { "MetricName": long, "Dimensions": dimensions },
        });
        let alarm = Notice::Alarm(Alarm::parse(&alarm.to_string()).unwrap());
        let failure = Notice::ProducerFailed { action: "plan", error: long.clone() };
        for payload in [alarm.blocks(&long), failure.blocks(&long)] {
            let blocks = payload["blocks"].as_array().unwrap();
            assert!(blocks.len() <= 50);
            assert!(payload["text"].as_str().unwrap().chars().count() <= LONGEST_TEXT);
            let length = |object: &Value| object["text"].as_str().unwrap().chars().count();
            for block in blocks {
                if let Some(text) = block.get("text") {
                    let most = if block["type"] == "header" { LONGEST_HEADER } else { LONGEST_TEXT };
                    assert!((1..=most).contains(&length(text)), "{}", length(text));
                }
                let fields = block["fields"].as_array().cloned().unwrap_or_default();
                assert!(fields.len() <= MOST_FIELDS);
                assert!(fields.iter().all(|field| (1..=LONGEST_FIELD).contains(&length(field))));
            }
            for text in &texts(&payload)[1..] {
                assert!(!text.replace("&amp;", "").contains('&'), "an entity was broken in {text}");
            }
        }
    }

    #[test]
    fn more_facts_than_one_section_takes_go_to_another() {
        let facts = (0..23).map(|number| ("Fact", number.to_string())).collect();
        let outline =
            Outline { title: "T".to_owned(), lead: String::new(), facts, quote: None, command: None };
        let payload = lay_out(&outline, "e");
        let lengths: Vec<_> = payload["blocks"].as_array().unwrap()[1..]
            .iter()
            .map(|block| block["fields"].as_array().unwrap().len())
            .collect();
        assert_eq!(lengths, [10, 10, 3]);
    }
}
