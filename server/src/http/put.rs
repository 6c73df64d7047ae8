//! Requests of source clients: programs such as butt, Liquidsoap, darkice and ffmpeg, which send sound to a mount as they do to Icecast.
//!
//! A request whose body has a length or chunks is read by hyper. Most source clients send neither, and mean everything up to the end of
//! the connection; theirs is taken out of hyper, as a listener's is.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode, Version};
use serde_json::json;

use crate::access::policy::Granted;
use crate::http::context::Context;
use crate::http::reply::{Reply, error, json as json_reply};
use crate::http::server::Server;
use crate::http::source_client::SourceClient;
use crate::mounts::ServedMount;
use crate::one_line::one_line;
use crate::source::PutRefused;

/// Characters of a client's name that are shown.
const MAX_NAME_CHARS: usize = 60;

/// Lets a client in that wants to send sound to a mount. Answers at its end, if hyper reads its body.
pub(super) async fn put<B>(
    server: &Arc<Server>,
    served: &ServedMount,
    context: &Context,
    request: &Request<B>,
    granted: Granted,
) -> Reply {
    let mount = served.mount.name().to_owned();
    let Some(input) = served.put() else {
        let source = &served.config().capture.source;
        let sentence = format!("the mount `{mount}` takes no source client: its source is {source} (set it to put)");
        return error(StatusCode::CONFLICT, sentence);
    };
    let headers = request.headers();
    let field = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let has_length = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    let expects_continue = field(header::EXPECT).eq_ignore_ascii_case("100-continue");
    // Behind a proxy, what follows a request without a body may be the request of somebody else.
    let is_endless = expects_continue || request.method() != Method::PUT || request.version() == Version::HTTP_10;
    if !has_length && !is_endless {
        let sentence = "there is no sound in the request (send it in chunks, or after Expect: 100-continue)";
        return error(StatusCode::LENGTH_REQUIRED, sentence);
    }
    let agent: String = one_line(field(header::USER_AGENT)).chars().take(MAX_NAME_CHARS).collect();
    let name = [context.client().ip().to_canonical().to_string(), agent].join(" ");
    let connection = match input.connect(name.trim_end(), field(header::CONTENT_TYPE)) {
        Ok(connection) => connection,
        Err(refused) => return refusal(&mount, refused),
    };
    context.place.become_listener();
    let client = SourceClient { server: Arc::clone(server), connection, granted, mount, expects_continue };
    match context.take_body().filter(|_| has_length) {
        Some(body) => client.receive(body, context.closing.clone()).await,
        None => {
            context.become_source(client);
            json_reply(&json!({}))
        }
    }
}

fn refusal(mount: &str, refused: PutRefused) -> Reply {
    error(StatusCode::CONFLICT, format!("the mount `{mount}`: {refused}"))
}
