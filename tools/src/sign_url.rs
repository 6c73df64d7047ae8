//! The command `sign-url`: a URL that a player can open without a token, until it expires.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aircheck_api::{EXPIRES, SIGNATURE, TokenHash, sign_url};
use clap::Args;
use hyper::Uri;

use crate::args::positive_span;
use crate::client::TokenArgs;
use crate::failure::{USAGE, complain};

/// The answer to a URL with a part missing.
const WHOLE: &str = "write the whole URL of a stream, such as http://studio:8700/stream.opus";

/// Make a URL of a stream that opens without a token until it expires
///
/// For players that can be given nothing but a URL. Nothing is asked of the
/// server: the URL is signed here, by a token with the scope listen. Whoever has
/// the URL can begin to listen until it expires, and can change nothing in it;
/// it ends with its token.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  aircheckctl sign-url https://radio.example/stream.opus --for 2h --token-file token
  mpv $(aircheckctl sign-url http://studio:8700/stream.wav --for 1m)

Exit codes:
  0  the URL is on stdout
  2  wrong usage"
)]
pub(crate) struct SignUrlArgs {
    /// URL of a stream, with all its parameters, as the server gets it
    #[arg(value_name = "URL", value_parser = stream)]
    url: Uri,

    /// Time from now in which a player may begin: 1m, 2h, 30d
    #[arg(long = "for", value_name = "D", value_parser = positive_span)]
    span: Duration,

    #[command(flatten)]
    token: TokenArgs,
}

/// Runs the command.
pub(crate) fn run(args: &SignUrlArgs) -> ExitCode {
    match signed(args, SystemTime::now()) {
        Ok(url) => {
            // A reader that is gone has the exit code.
            let _ = writeln!(io::stdout(), "{url}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            complain(&why);
            ExitCode::from(USAGE)
        }
    }
}

fn signed(args: &SignUrlArgs, now: SystemTime) -> Result<String, String> {
    let token = args.token.find()?.ok_or("a token is needed to sign with (--token-file F, or AIRCHECK_TOKEN)")?;
    let expires = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(args.span).as_secs();
    let query = args.url.query().unwrap_or_default();
    let path = sign_url(&TokenHash::of(token.secret()), args.url.path(), query, expires);
    let scheme = args.url.scheme_str().unwrap_or("http");
    Ok(format!("{scheme}://{}{path}", args.url.authority().map_or("", |authority| authority.as_str())))
}

/// Reads the URL of a stream.
fn stream(text: &str) -> Result<Uri, String> {
    if !text.contains("://") {
        return Err(WHOLE.to_owned());
    }
    let uri: Uri = text.parse().map_err(|error| format!("not a URL: {error}"))?;
    let authority = uri.authority().map(|authority| authority.as_str());
    if !matches!(uri.scheme_str(), Some("http" | "https" | "ws" | "wss")) || authority.is_none() {
        return Err(WHOLE.to_owned());
    }
    if authority.is_some_and(|authority| authority.contains('@')) {
        return Err("a signed URL needs no password: leave out what stands before the @".to_owned());
    }
    if uri.path() == "/" {
        return Err("name a stream: the page at / needs no signature (write /stream.opus or the like)".to_owned());
    }
    let query = uri.query().unwrap_or_default();
    let is_signed = |pair: &str| matches!(pair.split('=').next(), Some(EXPIRES | SIGNATURE));
    if query.split('&').any(is_signed) {
        return Err("it is signed already: sign the URL without expires and signature".to_owned());
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aircheck_api::SignedUrl;

    #[test]
    fn only_the_whole_url_of_a_stream_is_signed() {
        for (text, word) in [
            ("studio/stream.opus", "whole URL"),
            ("/stream.opus", "whole URL"),
            ("ftp://studio/stream.opus", "whole URL"),
            ("http://studio:8700/", "name a stream"),
            ("http://x:ac_y@studio/stream.opus", "no password"),
            ("http://studio/stream.opus?expires=1&signature=x", "signed already"),
            ("http://studio/a b", "not a URL"),
        ] {
            let wrong = stream(text).unwrap_err();
            assert!(wrong.contains(word) && !wrong.contains("ac_y"), "{text}: {wrong}");
        }
    }

    #[test]
    fn the_signature_is_of_path_and_query_and_ends_in_time() {
        use clap::FromArgMatches as _;
        let command = SignUrlArgs::augment_args(clap::Command::new("sign-url"));
        let words = ["sign-url", "https://radio.example/stream.opus?name=tv", "--for", "2h", "--token", "ac_x"];
        let args = SignUrlArgs::from_arg_matches(&command.get_matches_from(words)).unwrap();
        let url = signed(&args, UNIX_EPOCH + Duration::from_secs(1_800_000_000)).unwrap();
        let rest = url.strip_prefix("https://radio.example").unwrap();
        let (path, query) = rest.split_once('?').unwrap();
        assert!(query.starts_with("name=tv&expires=1800007200&signature="), "{query}");
        assert!(SignedUrl::parse(path, query).unwrap().is_signed_by(&TokenHash::of("ac_x")));
    }
}
