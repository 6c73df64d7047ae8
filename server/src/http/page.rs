//! The files of the page.

/// A file of the page, as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageFile {
    pub(super) content_type: &'static str,
    pub(super) text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, content type and text of each file.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("../../web/index.html")),
    ("/page.css", CSS, include_str!("../../web/page.css")),
    ("/icon.svg", SVG, include_str!("../../web/icon.svg")),
    ("/page.js", SCRIPT, include_str!("../../web/page.js")),
    ("/text.js", SCRIPT, include_str!("../../web/text.js")),
    ("/level.js", SCRIPT, include_str!("../../web/level.js")),
    ("/loudness.js", SCRIPT, include_str!("../../web/loudness.js")),
    ("/notifications.js", SCRIPT, include_str!("../../web/notifications.js")),
    ("/listeners.js", SCRIPT, include_str!("../../web/listeners.js")),
    ("/sparkline.js", SCRIPT, include_str!("../../web/sparkline.js")),
    ("/session.js", SCRIPT, include_str!("../../web/session.js")),
    ("/share.js", SCRIPT, include_str!("../../web/share.js")),
    ("/player.js", SCRIPT, include_str!("../../web/player.js")),
    ("/live.js", SCRIPT, include_str!("../../web/live.js")),
    ("/element.js", SCRIPT, include_str!("../../web/element.js")),
    ("/latency.js", SCRIPT, include_str!("../../web/latency.js")),
    ("/spectrogram.js", SCRIPT, include_str!("../../web/spectrogram.js")),
    ("/receiver.js", SCRIPT, include_str!("../../web/receiver.js")),
    ("/message.js", SCRIPT, include_str!("../../web/message.js")),
    ("/clock.js", SCRIPT, include_str!("../../web/clock.js")),
    ("/opus.js", SCRIPT, include_str!("../../web/opus.js")),
    ("/worklet.js", SCRIPT, include_str!("../../web/worklet.js")),
    ("/playout.js", SCRIPT, include_str!("../../web/playout.js")),
    ("/ring.js", SCRIPT, include_str!("../../web/ring.js")),
    ("/jitter.js", SCRIPT, include_str!("../../web/jitter.js")),
    ("/resampler.js", SCRIPT, include_str!("../../web/resampler.js")),
    ("/conceal.js", SCRIPT, include_str!("../../web/conceal.js")),
];

/// Returns the file at `path`.
pub(super) fn file(path: &str) -> Option<PageFile> {
    let (_, content_type, text) = FILES.iter().find(|(file, ..)| *file == path)?;
    Some(PageFile { content_type, text })
}
