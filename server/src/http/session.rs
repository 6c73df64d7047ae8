//! `/api/v1/session`: the page's sign-in, and the permissions of its requests.

use aircheck_api::SessionStatus;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, StatusCode};

use crate::access::credentials::COOKIE_NAME;
use crate::access::policy::Denied;
use crate::access::scope::Scope;
use crate::access::session::SESSION_SECONDS;
use crate::http::context::{Context, Serves};
use crate::http::denied::{asked, denied};
use crate::http::reply::{Reply, error, json, set_display};
use crate::http::server::Server;

/// Answers with the permissions on a mount (GET), begins a session by a token (POST), or ends it (DELETE).
pub(super) fn session<B>(server: &Server, mount: &str, context: &Context, request: &Request<B>) -> Reply {
    let asked = asked(request, &context.client());
    let access = server.access();
    if *request.method() == Method::DELETE {
        let mut reply = json(&serde_json::json!({ "signed_out": true }));
        set_cookie(&mut reply, request.headers(), "", 0);
        return reply;
    }
    let refuse = |why: &Denied| {
        let (reason, reply) = denied(why, &asked);
        server.metrics().refuse(reason);
        reply
    };
    let token = match access.identify(&asked) {
        Ok(token) => token,
        Err(why) => return refuse(&why),
    };
    let has = |scope: &Scope| access.may(&token, &asked, scope);
    // Figures have an address of their own then, and are not to be had here.
    let has_figures = context.serves != Serves::Streams;
    let status = SessionStatus {
        token: token.as_ref().map(|token| token.name.clone()),
        takes_token: !access.rules().tokens.is_empty(),
        listen: has(&Scope::Listen(Some(mount.to_owned()))),
        has_figures,
        stats: has_figures && has(&Scope::Stats),
        admin: has_figures && has(&Scope::Admin),
        host: request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned),
    };
    if *request.method() != Method::POST {
        return json(&status);
    }
    // By a token alone: a session that could begin the next one would never end.
    let Some(token) = token.filter(|_| request.headers().contains_key(header::AUTHORIZATION)) else {
        if !status.takes_token {
            return error(StatusCode::CONFLICT, "this server has no tokens, so there is nothing to sign in with");
        }
        return refuse(&Denied::NoToken(Scope::Listen(None)));
    };
    let mut reply = json(&status);
    set_cookie(&mut reply, request.headers(), &access.begin_session(&token, asked.unix_now), SESSION_SECONDS);
    reply
}

/// Sets the cookie of the page, for so many seconds. It goes to this server's own pages only, and no script can read it. On a
/// page that came by HTTPS, here or at a proxy, it goes by HTTPS only.
fn set_cookie(reply: &mut Reply, headers: &HeaderMap, value: &str, seconds: u64) {
    let is_https = headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https:"));
    let secure = if is_https { "; Secure" } else { "" };
    let cookie = format!("{COOKIE_NAME}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    set_display(reply, "set-cookie", cookie);
}
