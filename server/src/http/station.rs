//! The name under which a player shows a stream.

/// Returns this program's name and the host by which a request has reached it, so that two servers can be told apart in a list of
/// stations. `reached_url` is the URL of the server for this request. The name of the source is not used: it is a figure, which takes
/// another scope than the sound.
pub(super) fn station(reached_url: &str) -> String {
    let host = reached_url.split_once("://").map_or(reached_url, |(_, host)| host);
    format!("aircheck at {}", host.trim_end_matches('/'))
}
