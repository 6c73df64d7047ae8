//! A source client that was let in: its sound goes to the decoder, until one of them ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use crate::access::policy::Granted;
use crate::access::scope::Scope;
use crate::http::reply::{Reply, error, json as json_reply};
use crate::http::server::Server;
use crate::http::transport::Transport;
use crate::source::PutConnection;

/// A client of which no sound has come for this long is ended, so that another one can take its place. Icecast waits as long.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks whether a client is to end.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the end of a client may take, beside its sound.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that are read at once: half a second of the densest sound that is sent coded.
const READ_BYTES: usize = 16 * 1024;

/// A client that is let in.
#[derive(Debug)]
pub(super) struct SourceClient {
    pub(super) server: Arc<Server>,
    /// Its way to the decoder.
    pub(super) connection: PutConnection,
    /// The token that permits it.
    pub(super) granted: Granted,
    /// The name of its mount.
    pub(super) mount: String,
    /// Whether it waits to be told to go on, and gets an answer at its end. Others get an answer at once, as Icecast gives it.
    pub(super) expects_continue: bool,
}

/// The body that a client sends.
enum Body {
    Http(Incoming),
    Raw { transport: Transport, buffer: BytesMut },
}

/// Why a client has ended.
enum Ended {
    /// All of its sound was decoded, or cannot be.
    Decoded(Result<(), String>),
    /// Its connection has failed.
    Broken(io::Error),
    /// It was ended.
    Told(StatusCode, &'static str),
}

impl SourceClient {
    /// Reads the sound from the body of a request, until it ends. Returns the answer.
    pub(super) async fn receive(mut self, body: Incoming, closing: watch::Receiver<bool>) -> Reply {
        let ended = self.send_all(&mut Body::Http(body), closing).await;
        self.answer(ended)
    }

    /// Reads the sound from a connection that was taken out of hyper, until it ends. `read` was read from it already.
    pub(super) async fn serve(mut self, mut transport: Transport, read: Bytes, closing: watch::Receiver<bool>) {
        let head: &[u8] = if self.expects_continue {
            b"HTTP/1.1 100 Continue\r\n\r\n"
        } else {
            b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n"
        };
        if transport.write_all(head).await.is_err() || transport.flush().await.is_err() {
            return;
        }
        let mut body = Body::Raw { transport, buffer: BytesMut::from(&read[..]) };
        let ended = self.send_all(&mut body, closing).await;
        let expects_answer = self.expects_continue;
        let reply = self.answer(ended);
        let Body::Raw { mut transport, .. } = body else { return };
        let leave = async {
            if expects_answer {
                let (parts, body) = reply.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let head = format!(
                    "HTTP/1.1 {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    parts.status,
                    body.len()
                );
                transport.write_all(&[head.as_bytes(), &body].concat()).await?;
            }
            transport.shutdown().await?;
            // What it still sends would reset the connection, and with it the answer.
            while transport.read(&mut [0; 1024]).await? > 0 {}
            io::Result::Ok(())
        };
        // A client that is gone needs no answer.
        let _ = timeout(END_TIMEOUT, leave).await;
    }

    /// Hands the sound of `body` to the decoder until one of them ends, or the client is to end.
    async fn send_all(&mut self, body: &mut Body, mut closing: watch::Receiver<bool>) -> Ended {
        const STOPS: Ended = Ended::Told(StatusCode::SERVICE_UNAVAILABLE, "the server stops");
        let mut checks = interval(CHECK_INTERVAL);
        loop {
            let part = tokio::select! {
                part = body.next() => part,
                outcome = self.connection.ended() => return Ended::Decoded(outcome),
                _ = closing.wait_for(|closing| *closing) => return STOPS,
                _ = checks.tick() => match self.must_end() {
                    Some(ended) => return ended,
                    None => continue,
                },
            };
            let part = match part {
                Some(Ok(part)) => part,
                Some(Err(error)) => return Ended::Broken(error),
                None => return Ended::Decoded(self.connection.finish().await),
            };
            let sending = self.connection.send(part);
            tokio::pin!(sending);
            loop {
                tokio::select! {
                    () = &mut sending => break,
                    _ = closing.wait_for(|closing| *closing) => return STOPS,
                    _ = checks.tick() => if let Some(ended) = self.must_end() {
                        return ended;
                    },
                }
            }
        }
    }

    /// Returns whether the client is to end now.
    fn must_end(&self) -> Option<Ended> {
        if self.connection.is_closed() {
            return Some(Ended::Told(StatusCode::CONFLICT, "the mount has another source now"));
        }
        if !self.server.access().rules().permit(&self.granted, &Scope::Admin) {
            return Some(Ended::Told(StatusCode::FORBIDDEN, "its token was taken out of the settings"));
        }
        let is_silent = self.connection.silent_for() > SILENCE_TIMEOUT;
        is_silent.then_some(Ended::Told(StatusCode::REQUEST_TIMEOUT, "no sound has come of it for 10 s"))
    }

    /// Logs the end of the client, and returns the answer to it.
    fn answer(self, ended: Ended) -> Reply {
        let mount = &self.mount;
        match ended {
            Ended::Decoded(Ok(())) => {
                tracing::info!("the source client of `{mount}` has left");
                json_reply(&json!({ "ended": true }))
            }
            Ended::Decoded(Err(why)) => {
                tracing::warn!("the source client of `{mount}` was ended: {why}");
                error(StatusCode::UNSUPPORTED_MEDIA_TYPE, why)
            }
            Ended::Broken(why) => {
                tracing::info!("the source client of `{mount}` has lost its connection: {why}");
                error(StatusCode::BAD_REQUEST, format!("the body is broken: {why}"))
            }
            Ended::Told(status, why) => {
                tracing::warn!("the source client of `{mount}` was ended: {why}");
                error(status, why)
            }
        }
    }
}

impl Body {
    /// Reads the next part; `None` at the end. Nothing is lost if the future is dropped.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        match self {
            Self::Http(body) => loop {
                match body.frame().await? {
                    Ok(frame) => {
                        // Trailers say nothing of the sound.
                        if let Ok(part) = frame.into_data() {
                            return Some(Ok(part));
                        }
                    }
                    Err(error) => return Some(Err(io::Error::other(error))),
                }
            },
            Self::Raw { transport, buffer } => {
                if buffer.is_empty() {
                    buffer.reserve(READ_BYTES);
                    match transport.read_buf(buffer).await {
                        Ok(0) => return None,
                        Ok(_) => {}
                        Err(error) => return Some(Err(error)),
                    }
                }
                Some(Ok(buffer.split().freeze()))
            }
        }
    }
}
