//! Content types of renditions, and the rendition that an `Accept` header asks for.

use aircheck_api::Rendition;

/// Returns the `Content-Type` of a rendition's responses. That of Opus has no `codecs=opus`: an Icecast that relays the stream takes
/// `audio/ogg` alone, and players look into the stream. The WebSocket has no response body; its answer here is the
/// type of arbitrary bytes.
#[must_use]
pub const fn content_type(rendition: Rendition) -> &'static str {
    match rendition {
        Rendition::Wav => "audio/wav",
        Rendition::Pcm | Rendition::WebSocket => "application/octet-stream",
        Rendition::Json => "application/x-ndjson",
        Rendition::Flac => "audio/flac",
        Rendition::Mp3 => "audio/mpeg",
        Rendition::Opus => "audio/ogg",
        Rendition::Events => "text/event-stream",
    }
}

/// Returns the rendition for an `Accept` header: the first of its types that a rendition has, and WAV if none has.
///
/// ```
/// use aircheck_api::Rendition;
/// use aircheck_server::rendition::content_type::accepted;
///
/// assert_eq!(accepted("audio/ogg, audio/*;q=0.5"), Rendition::Opus);
/// assert_eq!(accepted("text/html"), Rendition::Wav);
/// ```
#[must_use]
pub fn accepted(accept: &str) -> Rendition {
    let types = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    for media_type in types {
        match media_type.to_ascii_lowercase().as_str() {
            "text/event-stream" => return Rendition::Events,
            "application/x-ndjson" | "application/json" => return Rendition::Json,
            "audio/flac" | "audio/x-flac" => return Rendition::Flac,
            "audio/ogg" | "audio/opus" | "application/ogg" => return Rendition::Opus,
            "audio/mpeg" | "audio/mp3" => return Rendition::Mp3,
            "audio/wav" | "audio/x-wav" | "audio/wave" | "audio/*" => return Rendition::Wav,
            _ => {}
        }
    }
    Rendition::Wav
}
