//! Decides whether a request may have what it asks for.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aircheck_api::{TokenHash, sign_url};
use hyper::Method;
use hyper::header::{self, HeaderMap};
use tokio::sync::watch;

use crate::access::credentials::Credential;
use crate::access::scope::Scope;
use crate::access::session::{self, SessionKey};
use crate::access::throttle::{MAX_WRONG, Throttle, Wrong};
use crate::access::token::{self, Token};

/// How long a URL opens at most that is signed for a request with a token or a sign-in: a playlist that was opened today plays
/// today, also after a lost connection, and a copy of it that is found later opens nothing.
const PASSED_ON_SECONDS: u64 = 24 * 3600;

/// Fields by which a proxy shows that it has passed a request on.
pub const PROXY_FIELDS: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "via"];

/// The tokens of a server, and the rules by which they open it.
#[derive(Debug)]
pub struct Access {
    rules: RwLock<Arc<Rules>>,
    /// Told whenever the tokens are replaced.
    changed: watch::Sender<()>,
    session_key: SessionKey,
    throttle: Throttle,
}

/// The tokens that are configured, and whether listening is open to everyone who can connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The tokens.
    pub tokens: Vec<Arc<Token>>,
    /// Whether `--insecure-public` is given.
    pub is_public: bool,
}

/// A request, as far as the decision needs it.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path as it was written.
    pub path: &'a str,
    /// Its query as it was written.
    pub query: &'a str,
    /// Its header fields.
    pub headers: &'a HeaderMap,
    /// The address of its client: the far end of its connection, or the one that a trusted proxy tells.
    pub remote: IpAddr,
    /// Whether a trusted proxy has passed it on.
    pub is_proxied: bool,
    /// The time, for the throttle.
    pub now: Instant,
    /// The same in Unix seconds, for expiries.
    pub unix_now: u64,
}

/// The token by which a request may have what it asks for; `None` where that takes no token.
pub type Granted = Option<Arc<Token>>;

/// Whose caches may keep the answer to a request that is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody's, because it takes no token.
    Everybody,
    /// Those that tell answers apart by the whole URL, which is signed, until this Unix time.
    Until(u64),
    /// The client's own: the credential is in a header, and a cache would give the answer to others without one.
    Own,
}

/// The reason why a request may not have what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It brings no token.
    NoToken(Scope),
    /// Its token is not one of this server's.
    WrongToken,
    /// Its address has sent too many wrong tokens.
    TooManyWrong(Duration),
    /// Its token has other scopes.
    Scope {
        /// The name of the token.
        token: String,
        /// The scope that is needed.
        needed: Scope,
    },
    /// No token is configured, and it does not come from this machine.
    NotLocal(Scope),
    /// The signature of its URL is not that of a token here.
    WrongSignature,
    /// Its signed URL has expired.
    Expired,
    /// Its cookie may be used by another web site.
    Forged,
}

impl Rules {
    /// Returns whether a scope takes a token.
    #[must_use]
    pub fn needs_token(&self, scope: &Scope) -> bool {
        let has_listen = || self.tokens.iter().any(|token| has_listen(token));
        match scope {
            Scope::Listen(_) if self.is_public => has_listen(),
            _ => !self.tokens.is_empty(),
        }
    }

    /// Returns whether the rules still permit a stream to go on that began by `granted`.
    #[must_use]
    pub fn permit(&self, granted: &Granted, scope: &Scope) -> bool {
        let Some(granted) = granted else { return !self.needs_token(scope) };
        self.tokens.iter().any(|token| token.hash == granted.hash && token.name == granted.name && token.covers(scope))
            || !self.needs_token(scope)
    }
}

/// Returns whether a token permits listening to anything.
#[must_use]
pub fn has_listen(token: &Token) -> bool {
    token.scopes.iter().any(|scope| matches!(scope, Scope::Listen(_)))
}

impl Access {
    /// Starts with these rules.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes for the key of sessions.
    pub fn new(rules: Rules) -> Result<Self, getrandom::Error> {
        Ok(Self {
            rules: RwLock::new(Arc::new(rules)),
            changed: watch::Sender::new(()),
            session_key: SessionKey::random()?,
            throttle: Throttle::default(),
        })
    }

    /// Returns the rules that hold now.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the rules. Streams that they no longer permit are ended by [`Rules::permit`] and [`Access::changes`].
    pub fn replace(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.changed.send_replace(());
    }

    /// Returns a receiver that is told whenever the rules are replaced.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Decides whether a request may have what takes this scope.
    ///
    /// # Errors
    ///
    /// The reason why it may not.
    pub fn admit(&self, asked: &Asked<'_>, scope: &Scope) -> Result<Granted, Denied> {
        let rules = self.rules();
        if rules.tokens.is_empty() {
            return if is_open(asked, scope) { Ok(None) } else { Err(Denied::NotLocal(scope.clone())) };
        }
        let identified = self.find(&rules, asked, scope);
        if !rules.needs_token(scope) {
            return Ok(identified.ok().flatten());
        }
        let token = identified.and_then(|token| token.ok_or_else(|| Denied::NoToken(scope.clone())));
        match token.map_err(|denied| self.count(denied, asked))? {
            token if token.covers(scope) => Ok(Some(token)),
            token => Err(Denied::Scope { token: token.name.clone(), needed: scope.clone() }),
        }
    }

    /// Returns the token that a request brings, for the page's sign-in. A signed URL is none. Wrong ones are counted.
    ///
    /// # Errors
    ///
    /// When it is wrong.
    pub fn identify(&self, asked: &Asked<'_>) -> Result<Granted, Denied> {
        let rules = self.rules();
        if rules.tokens.is_empty() {
            return Ok(None);
        }
        self.find(&rules, asked, &Scope::Admin).map_err(|denied| self.count(denied, asked))
    }

    /// Returns whether a request may have what takes this scope, by the token that [`identify`](Self::identify) has found.
    #[must_use]
    pub fn may(&self, granted: &Granted, asked: &Asked<'_>, scope: &Scope) -> bool {
        let rules = self.rules();
        if rules.tokens.is_empty() {
            return is_open(asked, scope);
        }
        rules.permit(granted, scope)
    }

    /// Returns `path` and `query` signed, for a player that brings nothing of its own: the URL opens by the token that was
    /// `granted` to this request for `scope`. It expires with the request's own credential, and after a day where that is a token
    /// or a sign-in. `None` where the scope takes no token.
    #[must_use]
    pub fn pass_on(
        &self,
        granted: &Granted,
        scope: &Scope,
        asked: &Asked<'_>,
        path: &str,
        query: &str,
    ) -> Option<String> {
        let token = granted.as_ref().filter(|_| self.rules().needs_token(scope))?;
        let in_a_day = asked.unix_now.saturating_add(PASSED_ON_SECONDS);
        let expires = match Credential::find(asked.headers, asked.path, asked.query)? {
            Credential::Token(_) => in_a_day,
            Credential::Session(value) => session::expires(&value)?.min(in_a_day),
            Credential::Url(url) => url.expires(),
        };
        Some(sign_url(&token.hash, path, query, expires))
    }

    /// Returns whose caches may keep the answer to a request that this scope was granted to.
    #[must_use]
    pub fn sharing(&self, scope: &Scope, asked: &Asked<'_>) -> Sharing {
        if !self.rules().needs_token(scope) {
            return Sharing::Everybody;
        }
        match Credential::find(asked.headers, asked.path, asked.query) {
            Some(Credential::Url(url)) => Sharing::Until(url.expires()),
            _ => Sharing::Own,
        }
    }

    /// Returns the value of the cookie for a sign-in by this token.
    #[must_use]
    pub fn begin_session(&self, token: &Token, unix_now: u64) -> String {
        self.session_key.begin(&token.hash, unix_now)
    }

    /// Returns the token of a request's credential. A session that has ended counts as none, because the page cannot delete
    /// its cookie.
    fn find(&self, rules: &Rules, asked: &Asked<'_>, scope: &Scope) -> Result<Granted, Denied> {
        let tokens = &rules.tokens;
        match Credential::find(asked.headers, asked.path, asked.query) {
            None => Ok(None),
            Some(Credential::Token(token)) => {
                let token = token::find(tokens, &TokenHash::of(&token)).ok_or(Denied::WrongToken)?;
                Ok(Some(Arc::clone(token)))
            }
            Some(Credential::Session(value)) => {
                let is_it = |token: &&Arc<Token>| self.session_key.is_session(&value, &token.hash, asked.unix_now);
                let token = tokens.iter().find(is_it);
                if token.is_some() && !is_safe(asked.method) && !is_from_our_page(asked.headers) {
                    return Err(Denied::Forged);
                }
                Ok(token.cloned())
            }
            Some(Credential::Url(url)) => {
                // It opens streams and nothing else, whatever its token may do.
                if !matches!(scope, Scope::Listen(_)) || !is_safe(asked.method) {
                    return Ok(None);
                }
                let token = tokens.iter().find(|token| url.is_signed_by(&token.hash));
                let token = token.ok_or(Denied::WrongSignature)?;
                if url.expires() <= asked.unix_now {
                    return Err(Denied::Expired);
                }
                Ok(Some(Arc::clone(token)))
            }
        }
    }

    /// Counts a wrong token, and returns the answer to it.
    fn count(&self, denied: Denied, asked: &Asked<'_>) -> Denied {
        if !matches!(denied, Denied::WrongToken | Denied::WrongSignature) {
            return denied;
        }
        match self.throttle.count(asked.remote, asked.now) {
            Wrong::Counted => denied,
            Wrong::TooMany { wait, is_first } => {
                if is_first {
                    let address = asked.remote.to_canonical();
                    tracing::warn!("{address} has sent more than {MAX_WRONG} wrong tokens within a minute");
                }
                Denied::TooManyWrong(wait)
            }
        }
    }
}

/// Returns whether a request may have what takes this scope where there are no tokens.
fn is_open(asked: &Asked<'_>, scope: &Scope) -> bool {
    matches!(scope, Scope::Listen(_)) || is_local(asked)
}

/// Returns whether a request comes from a program of this machine. A proxy on this machine sends requests of others, and
/// says so.
fn is_local(asked: &Asked<'_>) -> bool {
    let is_proxied = asked.is_proxied || PROXY_FIELDS.iter().any(|name| asked.headers.contains_key(*name));
    asked.remote.to_canonical().is_loopback() && !is_proxied
}

/// Returns whether a method changes nothing (RFC 9110, section 9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Returns whether a browser says that a request comes from a page of this server. Beside the guard of other sites' requests
/// and `SameSite=Strict`, it is the third lock on a cookie: all browsers send one of these fields with such a request.
fn is_from_our_page(headers: &HeaderMap) -> bool {
    // The guard has compared the origin with the host.
    headers.contains_key(header::ORIGIN) || headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin")
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn token(name: &str, secret: &str, scopes: &[&str]) -> Arc<Token> {
        let scopes = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
        Arc::new(Token { name: name.to_owned(), hash: TokenHash::of(secret), scopes })
    }

    fn access(tokens: &[Arc<Token>], is_public: bool) -> Access {
        Access::new(Rules { tokens: tokens.to_vec(), is_public }).unwrap()
    }

    fn kitchen_and_stats() -> Vec<Arc<Token>> {
        vec![token("kitchen", "ac_k", &["listen:main"]), token("prometheus", "ac_p", &["stats"])]
    }

    /// Asks `access` for a scope, from an address, with header fields; a field `url` has path and query.
    fn ask(access: &Access, scope: &str, remote: &str, fields: &[(&str, &str)]) -> Result<Option<String>, Denied> {
        ask_by(access, &Method::GET, scope, remote, fields)
    }

    fn ask_by(
        access: &Access,
        method: &Method,
        scope: &str,
        remote: &str,
        fields: &[(&str, &str)],
    ) -> Result<Option<String>, Denied> {
        let url = fields.iter().find(|(name, _)| *name == "url").map_or("/stream.wav", |(_, url)| url);
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let fields = fields.iter().filter(|(name, _)| *name != "url");
        let fields = fields
            .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        let remote = remote.parse().unwrap();
        let asked = Asked {
            method,
            path,
            query,
            headers: &fields,
            remote,
            is_proxied: false,
            now: Instant::now(),
            unix_now: NOW,
        };
        let granted = access.admit(&asked, &scope.parse().unwrap())?;
        Ok(granted.map(|token| token.name.clone()))
    }

    #[test]
    fn without_tokens_listening_is_open_and_the_rest_is_for_this_machine() {
        let access = access(&[], true);
        for remote in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.7"] {
            assert_eq!(ask(&access, "listen:main", remote, &[]), Ok(None));
            let is_local = remote != "192.0.2.7";
            for scope in ["stats", "admin"] {
                assert_eq!(ask(&access, scope, remote, &[]).is_ok(), is_local, "{scope} from {remote}");
            }
        }
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "via"] {
            let denied = Err(Denied::NotLocal(Scope::Stats));
            assert_eq!(ask(&access, "stats", "127.0.0.1", &[(name, "x")]), denied, "{name}");
        }
    }

    #[test]
    fn with_tokens_every_scope_takes_one_even_on_this_machine() {
        let access = access(&kitchen_and_stats(), false);
        let (kitchen, prometheus) = (("authorization", "Bearer ac_k"), ("authorization", "Bearer ac_p"));
        assert_eq!(ask(&access, "listen:main", "127.0.0.1", &[]), Err(Denied::NoToken("listen:main".parse().unwrap())));
        assert_eq!(ask(&access, "listen:main", "192.0.2.7", &[kitchen]), Ok(Some("kitchen".to_owned())));
        assert_eq!(ask(&access, "stats", "192.0.2.7", &[prometheus]), Ok(Some("prometheus".to_owned())));
        for (scope, field, token) in [
            ("listen:hall", kitchen, "kitchen"),
            ("stats", kitchen, "kitchen"),
            ("listen:main", prometheus, "prometheus"),
        ] {
            let denied = Denied::Scope { token: token.to_owned(), needed: scope.parse().unwrap() };
            assert_eq!(ask(&access, scope, "127.0.0.1", &[field]), Err(denied));
        }
    }

    #[test]
    fn insecure_public_opens_listening_alone_and_only_without_a_listen_token() {
        let access = access(&[token("prometheus", "ac_p", &["stats"])], true);
        assert_eq!(ask(&access, "listen:main", "192.0.2.7", &[]), Ok(None));
        assert_eq!(ask(&access, "listen:main", "192.0.2.7", &[("authorization", "Bearer wrong")]), Ok(None));
        assert_eq!(ask(&access, "stats", "127.0.0.1", &[]), Err(Denied::NoToken(Scope::Stats)));
        access.replace(Rules { tokens: kitchen_and_stats(), is_public: true });
        assert!(ask(&access, "listen:main", "192.0.2.7", &[]).is_err());
    }

    #[test]
    fn wrong_tokens_are_throttled_and_right_ones_are_not() {
        let access = access(&kitchen_and_stats(), false);
        let remote = "192.0.2.7";
        let wrong = |field| ask(&access, "listen:main", remote, &[field]);
        (0..9).for_each(|_| assert_eq!(wrong(("authorization", "Bearer ac_x")), Err(Denied::WrongToken)));
        assert_eq!(wrong(("url", "/stream.wav?signature=x")), Err(Denied::WrongSignature));
        assert!(matches!(wrong(("authorization", "Bearer ac_x")), Err(Denied::TooManyWrong(_))));
        assert!(matches!(wrong(("url", "/stream.wav?signature=x")), Err(Denied::TooManyWrong(_))));
        assert!(ask(&access, "listen:main", remote, &[("authorization", "Bearer ac_k")]).is_ok());
        let no_token = Err(Denied::NoToken("listen:main".parse().unwrap()));
        assert_eq!(ask(&access, "listen:main", remote, &[]), no_token, "a request without a token is not counted");
        assert_eq!(ask(&access, "listen:main", "192.0.2.8", &[("authorization", "Bearer x")]), Err(Denied::WrongToken));
    }

    #[test]
    fn a_signed_url_opens_its_stream_until_it_expires_and_nothing_else() {
        let tokens = [token("all", "ac_a", &["listen", "stats", "admin"])];
        let access = access(&tokens, false);
        let signed = |path: &str, expires| sign_url(&TokenHash::of("ac_a"), path, "name=x", expires);
        let good = signed("/stream.wav", NOW + 1);
        assert_eq!(ask(&access, "listen:main", "192.0.2.7", &[("url", &good)]), Ok(Some("all".to_owned())));
        let expired = signed("/stream.wav", NOW);
        assert_eq!(ask(&access, "listen:main", "192.0.2.7", &[("url", &expired)]), Err(Denied::Expired));
        for changed in [good.replace("name=x", "name=y"), good.replace(".wav", ".pcm"), format!("{expired}9")] {
            assert_eq!(ask(&access, "listen:main", "192.0.2.7", &[("url", &changed)]), Err(Denied::WrongSignature));
        }
        let metrics = signed("/metrics", NOW + 1);
        assert_eq!(ask(&access, "stats", "192.0.2.7", &[("url", &metrics)]), Err(Denied::NoToken(Scope::Stats)));
        access.replace(Rules { tokens: vec![token("all", "ac_b", &["listen"])], is_public: false });
        assert_eq!(ask(&access, "listen:main", "192.0.2.7", &[("url", &good)]), Err(Denied::WrongSignature));
    }

    #[test]
    fn a_session_ends_with_its_token_and_changes_nothing_for_another_site() {
        let tokens = [token("all", "ac_a", &["listen", "stats", "admin"])];
        let access = access(&tokens, false);
        let cookie = format!("aircheck={}", access.begin_session(&tokens[0], NOW));
        let cookie = ("cookie", &*cookie);
        assert_eq!(ask(&access, "stats", "192.0.2.7", &[cookie]), Ok(Some("all".to_owned())));
        let delete = |by: (&str, &str)| ask_by(&access, &Method::DELETE, "admin", "192.0.2.7", &[cookie, by]);
        assert_eq!(delete(("accept", "*/*")), Err(Denied::Forged));
        assert_eq!(delete(("sec-fetch-site", "cross-site")), Err(Denied::Forged));
        assert!(delete(("sec-fetch-site", "same-origin")).is_ok());
        assert!(delete(("origin", "http://the.guard.has.compared.it")).is_ok());
        access.replace(Rules { tokens: vec![token("all", "ac_b", &["stats"])], is_public: false });
        assert_eq!(ask(&access, "stats", "192.0.2.7", &[cookie]), Err(Denied::NoToken(Scope::Stats)));
    }

    #[test]
    fn streams_go_on_while_their_token_has_the_same_hash_and_scope() {
        let before = kitchen_and_stats();
        let (granted, scope) = (Some(Arc::clone(&before[0])), "listen:main".parse().unwrap());
        let permit =
            |tokens: &[Arc<Token>], is_public| Rules { tokens: tokens.to_vec(), is_public }.permit(&granted, &scope);
        assert!(permit(&before, false));
        assert!(permit(&[token("kitchen", "ac_k", &["listen", "stats"])], false), "with more scopes");
        assert!(permit(&[], false), "without tokens, listening is open");
        for (changed, why) in [
            (token("kitchen", "ac_new", &["listen"]), "another hash"),
            (token("bar", "ac_k", &["listen"]), "another name"),
            (token("kitchen", "ac_k", &["listen:hall", "stats"]), "without the scope"),
        ] {
            assert!(!permit(&[changed], false), "{why}");
        }
        let anonymous = |tokens| Rules { tokens, is_public: false }.permit(&None, &scope);
        assert!(anonymous(Vec::new()) && !anonymous(before));
    }
}
