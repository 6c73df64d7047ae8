//! The replay of a subject: the last minutes of what is published on it, in a memory stream of JetStream.
//!
//! The stream captures the subject, so live sound takes the same way with it and without it. Its publisher makes it and sets its bounds.
//! Servers that take the sound fetch from it what they have missed (`past.rs`).

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};

use crate::config::NatsUrl;
use crate::one_line::one_line;

/// How long the NATS server may take for an answer about a stream.
const API_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that a memory stream takes for a message beside its subject and payload: its number and its time.
const STORED_BYTES: usize = 16;
/// Bytes for messages that are no blocks, such as announcements.
const SPARE_BYTES: usize = 64 * 1024;

/// A replay as its publisher wants it.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    subject: String,
    /// What is kept.
    pub(crate) span: Duration,
    /// The most memory that it may take on the NATS server.
    pub(crate) max_bytes: u64,
}

impl Replay {
    /// Describes the replay of the last `span` of messages, each of which has the sound of `message_span` in so many bytes. Its bytes are those of
    /// the messages and an eighth more, for clocks that differ.
    pub(crate) fn new(subject: &str, span: Duration, message_span: Duration, message_bytes: usize) -> Self {
        let message = message_bytes + subject.len() + STORED_BYTES;
        let messages = span.as_nanos().div_ceil(message_span.as_nanos().max(1)) as u64;
        let max_bytes = (messages * message as u64) / 8 * 9 + SPARE_BYTES as u64;
        Self { subject: subject.to_owned(), span, max_bytes }
    }

    /// Returns the name of its stream.
    pub(crate) fn stream(&self) -> String {
        stream_name(&self.subject)
    }

    fn config(&self) -> Config {
        Config {
            name: self.stream(),
            description: Some("The last minutes of an aircheck, for those who have missed a part of it".to_owned()),
            subjects: vec![self.subject.clone()],
            storage: StorageType::Memory,
            max_age: self.span,
            max_bytes: i64::try_from(self.max_bytes).unwrap_or(i64::MAX),
            discard: DiscardPolicy::Old,
            num_replicas: 1,
            no_ack: true,
            // Blocks are fetched without a consumer, which would have to be made and ended.
            allow_direct: true,
            ..Config::default()
        }
    }

    /// Makes the stream, or gives one that is there the bounds of this replay. Costs one question if it is there and has them.
    ///
    /// # Errors
    ///
    /// Why there is no replay, in one line for people.
    pub(crate) async fn keep(&self, client: &Client, url: &NatsUrl) -> Result<(), String> {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(API_TIMEOUT);
        let config = self.config();
        let made = match context.get_stream(&config.name).await {
            Ok(stream) => {
                let there = &stream.cached_info().config;
                let is_right = (there.max_age, there.max_bytes) == (config.max_age, config.max_bytes)
                    && there.subjects == config.subjects
                    && there.allow_direct;
                if is_right {
                    return Ok(());
                }
                if there.subjects != config.subjects {
                    return Err(format!(
                        "the stream {} is there already, with the subject {} (delete it, or choose another subject)",
                        config.name,
                        one_line(&there.subjects.join(", "))
                    ));
                }
                context.update_stream(config).await.map(drop)
            }
            Err(error) if is_missing(&error) => context.create_stream(config).await.map(drop),
            Err(error) => return Err(self.refusal(url, code_of(&error), &error.to_string())),
        };
        made.map_err(|error| self.refusal(url, code_of_creation(&error), &error.to_string()))
    }

    /// Says why there is no replay, and what would work.
    fn refusal(&self, url: &NatsUrl, code: Option<ErrorCode>, error: &str) -> String {
        let server = url.authority();
        match code {
            None => format!(
                "JetStream does not answer at {server} (start that NATS server with --jetstream, and permit $JS.API.> to this user)"
            ),
            Some(ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT) => {
                format!("there is no JetStream at {server} for this user (enable it in that server and this account)")
            }
            Some(
                ErrorCode::MEMORY_RESOURCES_EXCEEDED
                | ErrorCode::STORAGE_RESOURCES_EXCEEDED
                | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
                | ErrorCode::INSUFFICIENT_RESOURCES,
            ) => format!(
                "JetStream at {server} has no {} MB of memory for it (raise its max_memory_store, or shorten --replay)",
                self.max_bytes.div_ceil(1_000_000)
            ),
            Some(ErrorCode::STREAM_SUBJECT_OVERLAP) => {
                format!("another stream at {server} has the subject (delete that, or choose another subject)")
            }
            Some(_) => format!("JetStream at {server} refuses the stream {}: {}", self.stream(), one_line(error)),
        }
    }
}

/// Returns the name of the stream that has the replay of a subject: `AIRCHECK_` and the subject, with `_` in place of each character that is
/// no letter, digit or hyphen. Two subjects may have one name; the one that comes later has no replay.
pub(crate) fn stream_name(subject: &str) -> String {
    let word = |character: char| if character.is_ascii_alphanumeric() || character == '-' { character } else { '_' };
    format!("AIRCHECK_{}", subject.chars().map(word).collect::<String>())
}

/// Returns whether a server refuses something of a replay.
pub(crate) fn is_about_replay(refusal: &str) -> bool {
    refusal.contains("\"$JS.API.")
}

fn is_missing(error: &GetStreamError) -> bool {
    code_of(error) == Some(ErrorCode::STREAM_NOT_FOUND)
}

fn code_of(error: &GetStreamError) -> Option<ErrorCode> {
    match error.kind() {
        GetStreamErrorKind::JetStream(error) => Some(error.error_code()),
        _ => None,
    }
}

fn code_of_creation(error: &CreateStreamError) -> Option<ErrorCode> {
    match error.kind() {
        CreateStreamErrorKind::JetStream(error) => Some(error.error_code()),
        CreateStreamErrorKind::NotFound => Some(ErrorCode::STREAM_NOT_FOUND),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_a_name_that_a_server_takes_and_room_for_its_span() {
        assert_eq!(stream_name("radio.one"), "AIRCHECK_radio_one");
        assert_eq!(stream_name(r"a\b-1.ü"), "AIRCHECK_a_b-1__");
        let replay = Replay::new("radio.one", Duration::from_secs(300), Duration::from_millis(10), 64 + 4 * 480);
        let blocks = 30_000 * (64 + 4 * 480 + 9 + 16);
        assert_eq!(replay.max_bytes, blocks / 8 * 9 + 65_536);
    }
}
