//! The forms in which receivers take a notification.

use std::fmt;
use std::str::FromStr;

use serde_json::json;

use crate::{Notification, NotificationState};

/// Longest text of a message in bytes: ntfy makes an attachment of a message of more than 4096.
const MAX_TEXT_BYTES: usize = 2000;

/// The form of a notification's body and headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The notification as JSON.
    #[default]
    Json,
    /// Text, with title, priority and tags as headers (<https://docs.ntfy.sh/publish/>).
    Ntfy,
    /// An incoming webhook of Slack or Mattermost (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>).
    Slack,
}

/// The error of a form that is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be json, ntfy or slack")]
pub struct UnknownForm;

impl Form {
    /// Returns the name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ntfy => "ntfy",
            Self::Slack => "slack",
        }
    }

    /// Returns the headers and the body of a notification.
    pub(crate) fn encode(self, notification: &Notification) -> (Vec<(&'static str, String)>, String) {
        let json_type = ("content-type", "application/json".to_owned());
        match self {
            // Fails for maps without string keys and for failing writers, of which there are none.
            Self::Json => (vec![json_type], serde_json::to_string(notification).unwrap_or_default()),
            Self::Ntfy => {
                let is_trouble = is_trouble(notification);
                let event = notification.event.name();
                let headers = vec![
                    ("content-type", "text/plain; charset=utf-8".to_owned()),
                    // Names only, because a header is ASCII.
                    ("title", format!("aircheck: {event} {}", notification.state.name())),
                    ("priority", if is_trouble { "high" } else { "default" }.to_owned()),
                    ("tags", if is_trouble { "warning" } else { "white_check_mark" }.to_owned()),
                ];
                (headers, text(notification))
            }
            Self::Slack => {
                let mark = if is_trouble(notification) { ":warning:" } else { ":white_check_mark:" };
                // The three characters that Slack's markup reserves: a listener's name can mention no channel.
                let text = text(notification).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                (vec![json_type], json!({ "text": format!("{mark} {text}") }).to_string())
            }
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Form {
    type Err = UnknownForm;

    fn from_str(text: &str) -> Result<Self, UnknownForm> {
        [Self::Json, Self::Ntfy, Self::Slack].into_iter().find(|form| form.name() == text).ok_or(UnknownForm)
    }
}

fn is_trouble(notification: &Notification) -> bool {
    notification.event.is_trouble() && notification.state == NotificationState::Begin
}

/// Returns the text with its server, without control characters and not too long.
fn text(notification: &Notification) -> String {
    let line = format!("{}: {}", notification.server, notification.text);
    let mut text: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // `str::floor_char_boundary` needs a newer Rust.
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Details, EventName};

    fn notification(text: &str) -> Notification {
        Notification {
            event: EventName::ListenerLag,
            state: NotificationState::Begin,
            mount: "main".into(),
            server: "studio".into(),
            at: 1.5,
            text: text.into(),
            details: Details::from_iter([("channel".to_owned(), 1.into())]),
        }
    }

    #[test]
    fn json_has_the_details_beside_the_other_fields() {
        let (_, body) = Form::Json.encode(&notification("late"));
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&json["event"], &json["state"], &json["channel"]),
            (&"listener_lag".into(), &"begin".into(), &1.into())
        );
    }

    #[test]
    fn slack_s_markup_is_escaped() {
        let (_, body) = Form::Slack.encode(&notification("<!channel> & \"x\""));
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["text"], ":warning: studio: &lt;!channel&gt; &amp; \"x\"");
    }

    #[test]
    fn ntfy_gets_a_line_that_is_not_too_long() {
        let (headers, body) = Form::Ntfy.encode(&notification(&format!("a\r\nb {}", "ü".repeat(3000))));
        assert!(body.starts_with("studio: a  b üü") && body.len() <= MAX_TEXT_BYTES, "{body}");
        assert!(headers.contains(&("title", "aircheck: listener_lag begin".to_owned())));
        assert!(headers.contains(&("priority", "high".to_owned())));
    }

    #[test]
    fn each_form_has_its_name() {
        for form in [Form::Json, Form::Ntfy, Form::Slack] {
            assert_eq!(form.name().parse(), Ok(form));
        }
        assert_eq!("Slack".parse::<Form>(), Err(UnknownForm));
    }
}
