//! CloudWatch's alarms, as they come through SNS.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde_json::Value;

/// An alarm that changed its state.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// `AlarmName`.
    pub name: String,
    /// `NewStateValue`: the state that it is in.
    pub state: AlarmState,
    /// `OldStateValue`: the state that it was in.
    pub previous: Option<AlarmState>,
    /// `AlarmDescription`: what its author wrote.
    pub description: Option<String>,
    /// `NewStateReason`: what CloudWatch says.
    pub reason: Option<String>,
    /// `StateChangeTime`.
    pub at: Option<Timestamp>,
    /// `Region`, by its display name: `EU (Ireland)`.
    pub region: Option<String>,
    /// The metric's name; of an expression, the names of its metrics.
    pub metric: Option<String>,
    /// The metric's dimensions, names and values.
    pub dimensions: Vec<(String, String)>,
}

/// A state of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmState {
    /// `ALARM`.
    Alarm,
    /// `OK`.
    Ok,
    /// `INSUFFICIENT_DATA`.
    InsufficientData,
}

impl Alarm {
    /// Reads the message of an SNS notification; `None` if it is no alarm.
    ///
    /// Only the name and the state must be there: an alarm that is half
    /// understood is better told than dropped.
    pub fn parse(message: &str) -> Option<Self> {
        let message: Value = serde_json::from_str(message).ok()?;
        let trigger = &message["Trigger"];
        let (metric, dimensions) = metric(trigger);
        Some(Self {
            name: text(&message["AlarmName"])?,
            state: state(&message["NewStateValue"])?,
            previous: state(&message["OldStateValue"]),
            description: text(&message["AlarmDescription"]),
            reason: text(&message["NewStateReason"]),
            at: text(&message["StateChangeTime"]).and_then(|time| time.parse().ok()),
            region: text(&message["Region"]),
            metric,
            dimensions,
        })
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn state(value: &Value) -> Option<AlarmState> {
    value.as_str()?.parse().ok()
}

/// The metric and its dimensions. An alarm on an expression has a list of both.
fn metric(trigger: &Value) -> (Option<String>, Vec<(String, String)>) {
    if let Some(name) = text(&trigger["MetricName"]) {
        return (Some(name), dimensions(trigger));
    }
    let mut names = Vec::new();
    let mut all = Vec::new();
    for entry in trigger["Metrics"].as_array().into_iter().flatten() {
        let metric = &entry["MetricStat"]["Metric"];
        names.extend(text(&metric["MetricName"]).filter(|name| !names.contains(name)));
        for dimension in dimensions(metric) {
            if !all.contains(&dimension) {
                all.push(dimension);
            }
        }
    }
    all.extend(dimensions(trigger));
    ((!names.is_empty()).then(|| names.join(", ")), all)
}

/// CloudWatch writes `name` and `value` in small letters here.
fn dimensions(metric: &Value) -> Vec<(String, String)> {
    let entries = metric["Dimensions"].as_array().into_iter().flatten();
    entries.filter_map(|entry| Some((text(&entry["name"])?, text(&entry["value"])?))).collect()
}

impl AlarmState {
    /// CloudWatch's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alarm => "ALARM",
            Self::Ok => "OK",
            Self::InsufficientData => "INSUFFICIENT_DATA",
        }
    }
}

impl FromStr for AlarmState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Alarm, Self::Ok, Self::InsufficientData]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no state of an alarm"))
    }
}

impl fmt::Display for AlarmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An alarm as CloudWatch writes it.
#[cfg(test)]
pub(super) fn sample(state: &str, previous: &str) -> String {
    serde_json::json!({
        "AlarmName": "bottles-prod-small-dlq",
        "AlarmDescription": "Bottles were given up on. Look: bottles dead-letters list --stack prod",
        "AWSAccountId": "123456789012",
        "AlarmConfigurationUpdatedTimestamp": "2026-11-20T08:00:00.000+0000",
        "NewStateValue": state,
        "NewStateReason": "Threshold Crossed: 1 out of the last 1 datapoints [3.0 (23/11/26 10:19:00)] was \
                           greater than the threshold (0.0) (minimum 1 datapoint for OK -> ALARM transition).",
        "StateChangeTime": "2026-11-23T10:20:11.123+0000",
        "Region": "EU (Ireland)",
        "AlarmArn": "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:bottles-prod-small-dlq",
        "OldStateValue": previous,
        "OKActions": ["arn:aws:sns:eu-west-1:123456789012:bottles-prod"],
        "AlarmActions": ["arn:aws:sns:eu-west-1:123456789012:bottles-prod"],
        "InsufficientDataActions": [],
        "Trigger": {
            "MetricName": "ApproximateNumberOfMessagesVisible",
            "Namespace": "AWS/SQS",
            "StatisticType": "Statistic",
            "Statistic": "MAXIMUM",
            "Unit": null,
            "Dimensions": [{ "value": "bottles-prod-small-dlq", "name": "QueueName" }],
            "Period": 60,
            "EvaluationPeriods": 1,
            "DatapointsToAlarm": 1,
            "ComparisonOperator": "GreaterThanThreshold",
            "Threshold": 0.0,
            "TreatMissingData": "notBreaching",
            "EvaluateLowSampleCountPercentile": ""
        }
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_read_as_cloudwatch_writes_it() {
        let alarm = Alarm::parse(&sample("ALARM", "INSUFFICIENT_DATA")).unwrap();
        assert_eq!(alarm.name, "bottles-prod-small-dlq");
        assert_eq!((alarm.state, alarm.previous), (AlarmState::Alarm, Some(AlarmState::InsufficientData)));
        assert!(alarm.description.unwrap().starts_with("Bottles were given up on."));
        assert!(alarm.reason.unwrap().starts_with("Threshold Crossed: 1 out of"));
        assert_eq!(alarm.at, Some("2026-11-23T10:20:11.123Z".parse().unwrap()));
        assert_eq!(alarm.region.as_deref(), Some("EU (Ireland)"));
        assert_eq!(alarm.metric.as_deref(), Some("ApproximateNumberOfMessagesVisible"));
        assert_eq!(alarm.dimensions, [("QueueName".to_owned(), "bottles-prod-small-dlq".to_owned())]);
    }

    #[test]
    fn an_alarm_on_an_expression_names_its_metrics() {
        let stat = |name: &str, queue: &str| {
            serde_json::json!({ "Id": name, "MetricStat": { "Stat": "Sum", "Period": 60, "Metric": {
                "MetricName": name, "Dimensions": [{ "name": "QueueName", "value": queue }] } } })
        };
        let message = serde_json::json!({
            "AlarmName": "a", "NewStateValue": "OK",
            "Trigger": { "Metrics": [
                { "Id": "e", "Expression": "m1 + m2" }, stat("Sent", "q"), stat("Deleted", "q"), stat("Sent", "r"),
            ] },
        });
        let alarm = Alarm::parse(&message.to_string()).unwrap();
        assert_eq!(alarm.metric.as_deref(), Some("Sent, Deleted"));
        let queue = |value: &str| ("QueueName".to_owned(), value.to_owned());
        assert_eq!(alarm.dimensions, [queue("q"), queue("r")]);
    }

    #[test]
    fn a_name_and_a_state_are_enough() {
        let message = r#"{"AlarmName":"composite","NewStateValue":"INSUFFICIENT_DATA","AlarmRule":"ALARM(a)",
            "AlarmDescription":null,"StateChangeTime":"yesterday","Trigger":7,"Region":[]}"#;
        let alarm = Alarm::parse(message).unwrap();
        assert_eq!((alarm.name.as_str(), alarm.state), ("composite", AlarmState::InsufficientData));
        assert_eq!((alarm.description, alarm.at, alarm.region), (None, None, None));
        assert!(alarm.metric.is_none() && alarm.dimensions.is_empty());
    }

    #[test]
    fn what_is_no_alarm_is_none() {
        for text in [
            "",
            "Run settled with 3 dead letters\n",
            "{}",
            "[]",
            "null",
            "\"AlarmName\"",
            r#"{"AlarmName":"a"}"#,
            r#"{"NewStateValue":"ALARM"}"#,
            r#"{"AlarmName":"","NewStateValue":"ALARM"}"#,
            r#"{"AlarmName":"a","NewStateValue":"alarming"}"#,
            r#"{"AlarmName":7,"NewStateValue":"ALARM"}"#,
        ] {
            assert!(Alarm::parse(text).is_none(), "{text:?} was taken");
        }
    }
}
