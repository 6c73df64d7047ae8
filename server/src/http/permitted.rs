//! A body that takes long, or has no end, and ends when its reader's token is taken out.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;

use crate::access::policy::Granted;
use crate::access::scope::Scope;
use crate::http::server::Server;

/// Passes on a body until its reader is no longer permitted to have it.
struct WhilePermitted {
    body: UnsyncBoxBody<Bytes, Infallible>,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Returns the body, ended when the rules no longer permit `scope` to the token by which it was granted.
pub(super) fn while_permitted(
    body: UnsyncBoxBody<Bytes, Infallible>,
    server: &Arc<Server>,
    granted: Granted,
    scope: Scope,
) -> UnsyncBoxBody<Bytes, Infallible> {
    let server = Arc::clone(server);
    let mut changes = server.access().changes();
    let ended = async move {
        // The rules may have changed before the first wait.
        while server.access().rules().permit(&granted, &scope) {
            // Fails if the server is gone, with all its bodies.
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    WhilePermitted { body, ended: Box::pin(ended) }.boxed_unsync()
}

impl Body for WhilePermitted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
