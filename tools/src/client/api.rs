//! The server's JSON API, over one connection that is kept.

use std::time::Duration;

use aircheck_api::{ListenerRow, Status};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::http;
use super::url::Address;
use crate::failure::{Failure, root_cause};
use crate::sanitize::{sanitize, sanitize_cell};
use crate::units;

/// Largest document that is read: the rows of 20 000 listeners.
const MAX_BODY_BYTES: usize = 32 << 20;
/// Longest text of a row or of the status that is kept. A name has 64 characters at most.
const MAX_TEXT_CHARS: usize = 300;

/// A server's API, and the connection to it while there is one.
#[derive(Debug)]
pub(crate) struct ApiClient {
    address: Address,
    /// How long an answer may take.
    timeout: Duration,
    /// The only mount that is asked about.
    mount: Option<String>,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

/// The result of disconnecting a listener.
#[derive(Debug)]
pub(crate) enum Disconnected {
    /// The listener is disconnected.
    Done,
    /// The listener had left by itself.
    HadLeft,
    /// The server did not do it.
    Failed(String),
}

impl ApiClient {
    /// Makes a client that has not connected yet. Each answer may take `timeout`.
    pub(crate) fn new(address: Address, timeout: Duration) -> Self {
        Self { address, timeout, mount: None, connection: None }
    }

    /// Asks about this mount alone, if there is a name, or else about the first one and the listeners of all.
    pub(crate) fn of_mount(mut self, mount: Option<String>) -> Self {
        self.mount = mount;
        self
    }

    /// Returns a path that asks about the mount.
    fn of(&self, path: &str) -> String {
        match &self.mount {
            Some(mount) => {
                format!("{path}?mount={}", form_urlencoded::byte_serialize(mount.as_bytes()).collect::<String>())
            }
            None => path.to_owned(),
        }
    }

    /// Asks for `/api/v1/status`. Its texts are harmless in a terminal.
    pub(crate) async fn status(&mut self) -> Result<Status, Failure> {
        let mut status: Status = self.get(&self.of("/api/v1/status")).await?;
        clean(&mut status.mount);
        clean(&mut status.source.description);
        status.source.failure.as_mut().map(clean);
        status.recording.as_mut().and_then(|recording| recording.failing.as_mut()).map(clean);
        for target in &mut status.notifications {
            clean(&mut target.host);
            target.last_error.as_mut().map(clean);
        }
        if let Some(last) = &mut status.last_notification {
            clean(&mut last.text);
        }
        Ok(status)
    }

    /// Asks for `/api/v1/listeners`. Its texts are harmless in a terminal: each listener chooses its own name.
    pub(crate) async fn listeners(&mut self) -> Result<Vec<ListenerRow>, Failure> {
        let mut rows: Vec<ListenerRow> = self.get(&self.of("/api/v1/listeners")).await?;
        for row in &mut rows {
            let texts = [
                &mut row.mount,
                &mut row.name,
                &mut row.remote,
                &mut row.overflow,
                row.format.to_mut(),
                &mut row.state,
            ];
            texts.into_iter().chain(&mut row.via).chain(&mut row.token).for_each(clean);
        }
        Ok(rows)
    }

    /// Disconnects a listener.
    pub(crate) async fn disconnect(&mut self, id: u64) -> Disconnected {
        match self.ask(&Method::DELETE, &format!("/api/v1/listeners/{id}")).await {
            Ok(response) if response.status().is_success() => Disconnected::Done,
            Ok(response) if response.status() == StatusCode::NOT_FOUND => Disconnected::HadLeft,
            Ok(response) => Disconnected::Failed(self.refused(response).await.to_string()),
            Err(failure) => Disconnected::Failed(failure.to_string()),
        }
    }

    /// Asks for a path whose answer is read by the caller.
    pub(crate) async fn open(&mut self, path: &str) -> Result<Incoming, Failure> {
        let response = self.ask(&Method::GET, path).await?;
        if response.status() == StatusCode::OK { Ok(response.into_body()) } else { Err(self.refused(response).await) }
    }

    async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        let response = self.ask(&Method::GET, path).await?;
        let status = response.status();
        // An aircheck without the mount says so itself.
        let is_elsewhere = status == StatusCode::NOT_FOUND && self.mount.is_none();
        if is_elsewhere || status.is_redirection() {
            return Err(self.not_aircheck(format!("HTTP {} at {path}", status.as_u16())));
        }
        if status != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|error| {
            let why = sanitize(&error.to_string(), 120);
            self.not_aircheck(format!("its answer at {path} cannot be read ({why})"))
        })
    }

    /// Asks over the connection that there is, or over a new one.
    async fn ask(&mut self, method: &Method, path: &str) -> Result<Response<Incoming>, Failure> {
        // A server may close a connection that was idle, or have been started anew. That is a failure only if a new
        // connection fails too.
        if let Some(connection) = self.connection.take()
            && let Ok(response) = self.send(connection, method, path).await?
        {
            return Ok(response);
        }
        let tcp = http::connect(&self.address).await?;
        let (connection, driver) = http1::handshake(TokioIo::new(tcp)).await.map_err(|error| self.broken(&error))?;
        // Its error also reaches the call that waits for the answer.
        tokio::spawn(driver);
        self.send(connection, method, path).await?.map_err(|error| self.broken(&error))
    }

    /// Asks over a connection, and keeps it if it has not broken.
    async fn send(
        &mut self,
        mut connection: SendRequest<Empty<Bytes>>,
        method: &Method,
        path: &str,
    ) -> Result<hyper::Result<Response<Incoming>>, Failure> {
        let request = http::request(method.clone(), &self.address, path)?;
        let answer = async {
            connection.ready().await?;
            connection.send_request(request).await
        };
        let answer = timeout(self.timeout, answer).await.map_err(|_| self.silent())?;
        if answer.is_ok() {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        match timeout(self.timeout, Limited::new(response.into_body(), MAX_BODY_BYTES).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(Failure::Lost(root_cause(error.as_ref()))),
            Err(_) => Err(self.silent()),
        }
    }

    async fn refused(&self, response: Response<Incoming>) -> Failure {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.body(response).await.unwrap_or_default();
        http::refused(status, &headers, &body)
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        http::no_answer(&self.address, root_cause(error))
    }

    fn silent(&self) -> Failure {
        http::no_answer(&self.address, format!("none within {}", units::span(self.timeout)))
    }

    fn not_aircheck(&self, why: String) -> Failure {
        Failure::NotAircheck { authority: self.address.authority().to_owned(), why }
    }
}

fn clean(text: &mut String) {
    *text = sanitize_cell(text, MAX_TEXT_CHARS);
}
