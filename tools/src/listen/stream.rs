//! A stream that has begun, whichever way it comes: as lines over HTTP, or as messages of a WebSocket.

use crate::client::block::Line;
use crate::client::format::Format;
use crate::client::http::{self as client, Answer};
use crate::client::message::Said;
use crate::client::websocket::WebSocket;
use crate::failure::Failure;
use crate::listen::feed::Feed;
use crate::listen::target::{Mount, Target};

/// What can come.
#[derive(Debug)]
pub(crate) enum Event {
    /// A block, a gap, or both.
    Line(Line),
    /// The answer to a question for the time: our own time of asking, and the server's, in seconds.
    Clock { asked: f64, server: f64 },
    /// The server says that something we said was wrong.
    Complaint(String),
}

/// A server's stream.
#[derive(Debug)]
pub(crate) enum Stream {
    /// `/stream.json`.
    Lines { answer: Answer, feed: Feed },
    /// `/stream`.
    WebSocket(Box<WebSocket>),
}

impl Stream {
    /// Connects, and waits until the stream begins. Must run inside a runtime.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from beginning.
    pub(crate) async fn begin(target: &Target) -> Result<Self, Failure> {
        match target.mount() {
            Mount::Lines => {
                let answer = client::ask(target).await?;
                let feed = Feed::new(answer.format.channels);
                Ok(Self::Lines { answer, feed })
            }
            Mount::WebSocket => WebSocket::open(target).await.map(|socket| Self::WebSocket(socket.into())),
        }
    }

    /// Rate and channels.
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Lines { answer, .. } => answer.format,
            Self::WebSocket(socket) => socket.hello().format,
        }
    }

    /// The next event; `None` when the server has ended the stream properly. May be given up and called again.
    ///
    /// # Errors
    ///
    /// Whatever ends a stream otherwise.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        match self {
            Self::Lines { answer, feed } => loop {
                if let Some(line) = feed.next_line()? {
                    return Ok(Some(Event::Line(line)));
                }
                match answer.bytes().await? {
                    Some(bytes) => feed.push(&bytes),
                    None => return feed.finish().map(|()| None),
                }
            },
            Self::WebSocket(socket) => Ok(socket.next().await?.map(|said| match said {
                Said::Block(block) => Event::Line(Line { gap: None, block: Some(block) }),
                Said::Gap(gap) => Event::Line(Line { gap: Some(gap), block: None }),
                Said::Clock { asked, now } => Event::Clock { asked, server: now },
                Said::Complaint(complaint) => Event::Complaint(complaint),
                Said::Unknown => Event::Line(Line::default()),
            })),
        }
    }

    /// The WebSocket, if it is one: the way back.
    pub(crate) fn websocket(&mut self) -> Option<&mut WebSocket> {
        match self {
            Self::Lines { .. } => None,
            Self::WebSocket(socket) => Some(socket),
        }
    }

    /// Whether the server's clock is certainly ours: the connection's two ends have the same address.
    pub(crate) fn same_machine(&self) -> bool {
        matches!(self, Self::Lines { answer, .. } if answer.same_machine)
    }
}
