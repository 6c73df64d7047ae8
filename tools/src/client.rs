//! Talking to a server: its URL and token, HTTP requests, its JSON API, its WebSocket.

mod api;
mod block;
mod http;
mod token;
mod transport;
mod url;
mod websocket;

pub(crate) use api::{ApiClient, Disconnected};
pub(crate) use block::Block;
pub(crate) use http::{TIMEOUT, connect, refused};
pub(crate) use token::{Token, TokenArgs};
pub(crate) use transport::{Transport, trust};
pub(crate) use url::{Address, Url};
pub(crate) use websocket::{Message, WebSocket};
