//! `/api/v1/mounts/NAME/metadata`: what is known of the sound, and its change; and the way in which source clients of Icecast change it.

use std::time::Duration;

use aircheck_api::{Metadata, MetadataStatus};
use http_body_util::{BodyExt as _, Limited};
use hyper::StatusCode;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use tokio::time::timeout;

use crate::http::reply::{Reply, error, json, whole};
use crate::mount::Mount;

/// The longest body: titles of 250 characters, each of which may take 12 bytes in JSON.
const MAX_BYTES: usize = 8 * 1024;
/// How long a body may take, as a request's head may.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns what is known of the sound that is captured now.
pub(super) fn status(mount: &Mount) -> MetadataStatus {
    let newest = mount.metadata().newest();
    newest.map_or_else(MetadataStatus::default, |change| MetadataStatus {
        metadata: change.notice.metadata.clone(),
        sequence: Some(change.notice.sequence),
    })
}

/// Sets what is known of the sound from now on, as the body of a request says.
pub(super) async fn put(mount: &Mount, body: Option<Incoming>) -> Reply {
    /// The document, in which nothing else may stand.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document {
        title: Option<String>,
        artist: Option<String>,
    }
    const TAKES: &str = r#"expected {"title":"…","artist":"…"}"#;
    let Some(body) = body else { return error(StatusCode::BAD_REQUEST, TAKES) };
    let bytes = match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BYTES).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(why)) => return error(StatusCode::BAD_REQUEST, format!("{TAKES}: the body cannot be read: {why}")),
        Err(_) => return error(StatusCode::REQUEST_TIMEOUT, format!("{TAKES}: the body did not come within 10 s")),
    };
    match serde_json::from_slice(&bytes) {
        Ok(Document { title, artist }) => {
            set(mount, Metadata { title, artist });
            json(&status(mount))
        }
        Err(why) => error(StatusCode::BAD_REQUEST, format!("{TAKES}: {why}")),
    }
}

/// Sets what is known of the sound as source clients of Icecast do: `mode=updinfo`, and `song` or `title` and `artist` in the query.
pub(super) fn update(mount: &Mount, query: &str) -> Reply {
    let value = |name: &str| field(query, name);
    if value("mode").as_deref() != Some("updinfo") {
        return error(StatusCode::BAD_REQUEST, "mode: must be updinfo");
    }
    let Some(title) = value("song").or_else(|| value("title")) else {
        return error(StatusCode::BAD_REQUEST, "song: is missing (it is the title)");
    };
    set(mount, Metadata { title: Some(title), artist: value("artist") });
    // The answer of Icecast.
    let body = "<?xml version=\"1.0\"?>\n<iceresponse><message>Metadata update successful</message><return>1</return></iceresponse>\n";
    whole(StatusCode::OK, "text/xml", body)
}

/// Returns the name of the mount that such a query means: `mount=/mounts/NAME`, or its name alone.
pub(super) fn mount_of_update(query: &str) -> Option<String> {
    let mount = field(query, "mount")?;
    let name = mount.trim_start_matches('/');
    Some(name.strip_prefix("mounts/").unwrap_or(name).to_owned())
}

fn set(mount: &Mount, metadata: Metadata) {
    mount.metadata().set(metadata, mount.capture().next_sequence());
}

/// Returns a value of a query. Clients for MP3 write it in Latin-1 where they don't write UTF-8.
fn field(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?.replace('+', " ");
    let bytes: Vec<u8> = percent_decode_str(&value).collect();
    Some(
        String::from_utf8(bytes)
            .unwrap_or_else(|error| error.as_bytes().iter().map(|byte| char::from(*byte)).collect()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_queries_are_read_as_clients_write_them() {
        let query = "mode=updinfo&mount=%2Fmounts%2Flive&song=The+Owls%20-%20%fcber&charset=x";
        assert_eq!(field(query, "song").as_deref(), Some("The Owls - \u{fc}ber"), "Latin-1");
        assert_eq!(field("song=%C3%BCber%", "song").as_deref(), Some("\u{fc}ber%"), "UTF-8");
        assert_eq!(field(query, "artist"), None);
        for mount in ["%2Fmounts%2Flive", "/mounts/live", "live", "/live"] {
            assert_eq!(mount_of_update(&format!("mount={mount}")).as_deref(), Some("live"));
        }
    }
}
