//! Talking to a server: its URL, HTTP requests, the WebSocket.

pub(crate) mod block;
pub(crate) mod format;
pub(crate) mod http;
pub(crate) mod message;
pub(crate) mod url;
pub(crate) mod websocket;
