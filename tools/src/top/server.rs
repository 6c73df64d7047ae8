//! The server's API, asked again and again over one connection.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::api::{Row, Status};
use super::state::{Kicked, News};
use crate::client::http as client;
use crate::client::url::Address;
use crate::failure::{Failure, root_cause};
use crate::units as words;

/// The same pace as the server's page: fast enough for meters to look alive, and for somebody frozen to be seen soon.
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// Rows come with every second status, or, where there are many, with every fourth: a row is half a kilobyte.
const MANY: usize = 100;
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// A server that lives answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of all listeners that a server may have, ten times over.
const BODY_BYTES: usize = 16 << 20;

/// None of ours has a body.
type Question = Request<Empty<Bytes>>;

/// A server, and the connection to it while there is one.
#[derive(Debug)]
pub(crate) struct Server {
    address: Address,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Server {
    pub(crate) fn new(address: Address) -> Self {
        Self { address, connection: None }
    }

    /// `/api/v1/status`.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being known.
    pub(crate) async fn status(&mut self) -> Result<Status, Failure> {
        self.get("/api/v1/status").await
    }

    /// `/api/v1/listeners`.
    ///
    /// # Errors
    ///
    /// Likewise.
    pub(crate) async fn listeners(&mut self) -> Result<Vec<Row>, Failure> {
        self.get("/api/v1/listeners").await
    }

    /// Disconnects a listener.
    pub(crate) async fn kick(&mut self, id: u64) -> Kicked {
        match self.ask(&Method::DELETE, &format!("/api/v1/listeners/{id}")).await {
            Ok(response) if response.status().is_success() => Kicked::Gone,
            Ok(response) if response.status() == StatusCode::NOT_FOUND => Kicked::WasGone,
            Ok(response) => Kicked::Failed(client::refusal(response).await.to_string()),
            Err(failure) => Kicked::Failed(failure.to_string()),
        }
    }

    /// Asks for ever, and tells what comes. Ends when nobody listens any more.
    pub(crate) async fn watch(mut self, news: mpsc::Sender<News>) {
        let mut looks = 0_u64;
        let mut rows_every = 2;
        loop {
            let began = Instant::now();
            let (answer, pause) = match self.look(looks.is_multiple_of(rows_every)).await {
                Ok(answer) => (answer, STATUS_EVERY),
                Err(failure) => {
                    self.connection = None;
                    let why = match failure {
                        // Whose connection it is stands above.
                        Failure::Connect { why, .. } => why,
                        other => other.to_string(),
                    };
                    (vec![News::Silence(why)], RETRY_EVERY)
                }
            };
            // After a failure everything is asked for at once.
            looks = if pause == STATUS_EVERY { looks + 1 } else { 0 };
            for one in answer {
                if let News::Listeners(rows) = &one {
                    rows_every = if rows.len() > MANY { 4 } else { 2 };
                }
                if news.send(one).await.is_err() {
                    return;
                }
            }
            sleep_until(began + pause).await;
        }
    }

    /// Status and rows in one: a status alone doesn't say that the rows are as new.
    async fn look(&mut self, with_rows: bool) -> Result<Vec<News>, Failure> {
        let mut news = vec![News::Status(Box::new(self.status().await?))];
        if with_rows {
            news.push(News::Listeners(self.listeners().await?));
        }
        Ok(news)
    }

    async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        let response = self.ask(&Method::GET, path).await?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND || status.is_redirection() {
            return Err(self.no_aircheck(format!("HTTP {} at {path}", status.as_u16())));
        }
        if status != StatusCode::OK {
            return Err(client::refusal(response).await);
        }
        let body = timeout(PATIENCE, Limited::new(response.into_body(), BODY_BYTES).collect()).await;
        let body = match body {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return Err(Failure::Lost(root_cause(error.as_ref()))),
            Err(_) => return Err(self.silent()),
        };
        serde_json::from_slice(&body).map_err(|error| {
            let why = words::quoted(&error.to_string(), 120);
            self.no_aircheck(format!("what it says at {path} makes no sense ({why})"))
        })
    }

    /// Asks over the connection that there is, or over a new one.
    async fn ask(&mut self, method: &Method, path: &str) -> Result<Response<Incoming>, Failure> {
        if let Some(mut connection) = self.connection.take() {
            // A server may close a connection that has been idle, or have been started anew: no reason to complain,
            // unless a new connection fails, too.
            if connection.ready().await.is_ok() {
                match timeout(PATIENCE, connection.send_request(self.request(method, path)?)).await {
                    Ok(Ok(response)) => {
                        self.connection = Some(connection);
                        return Ok(response);
                    }
                    Ok(Err(_)) => {}
                    Err(_) => return Err(self.silent()),
                }
            }
        }
        let tcp = client::connect(&self.address).await?;
        let request = self.request(method, path)?;
        let asked = async {
            let (mut connection, driver) = http1::handshake(TokioIo::new(tcp)).await?;
            // Its error also reaches the one who waits for the answer.
            tokio::spawn(driver);
            let response = connection.send_request(request).await?;
            Ok::<_, hyper::Error>((connection, response))
        };
        match timeout(PATIENCE, asked).await {
            Ok(Ok((connection, response))) => {
                self.connection = Some(connection);
                Ok(response)
            }
            Ok(Err(error)) => Err(client::no_answer(&self.address, root_cause(&error))),
            Err(_) => Err(self.silent()),
        }
    }

    fn request(&self, method: &Method, path: &str) -> Result<Question, Failure> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.authority())
            .header(USER_AGENT, concat!("aircheckctl/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| client::no_answer(&self.address, root_cause(&error)))
    }

    fn silent(&self) -> Failure {
        client::no_answer(&self.address, format!("none within {}", words::span(PATIENCE)))
    }

    fn no_aircheck(&self, why: String) -> Failure {
        Failure::NotAircheck { authority: self.address.authority().to_owned(), why }
    }
}
