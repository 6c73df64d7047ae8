//! The files of the page.

/// A file of the page, as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageFile {
    pub(super) content_type: &'static str,
    pub(super) bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const PNG: &str = "image/png";
const MANIFEST: &str = "application/manifest+json";

/// Path, content type and content of each file.
const FILES: &[(&str, &str, &[u8])] = &[
    ("/", HTML, include_bytes!("../../web/index.html")),
    ("/page.css", CSS, include_bytes!("../../web/page.css")),
    ("/manifest.webmanifest", MANIFEST, include_bytes!("../../web/manifest.webmanifest")),
    ("/icon.svg", SVG, include_bytes!("../../web/icon.svg")),
    ("/icon-192.png", PNG, include_bytes!("../../web/icon-192.png")),
    ("/icon-512.png", PNG, include_bytes!("../../web/icon-512.png")),
    ("/icon-maskable.png", PNG, include_bytes!("../../web/icon-maskable.png")),
    ("/apple-touch-icon.png", PNG, include_bytes!("../../web/apple-touch-icon.png")),
    ("/page.js", SCRIPT, include_bytes!("../../web/page.js")),
    ("/text.js", SCRIPT, include_bytes!("../../web/text.js")),
    ("/titles.js", SCRIPT, include_bytes!("../../web/titles.js")),
    ("/address.js", SCRIPT, include_bytes!("../../web/address.js")),
    ("/mounts.js", SCRIPT, include_bytes!("../../web/mounts.js")),
    ("/level.js", SCRIPT, include_bytes!("../../web/level.js")),
    ("/loudness.js", SCRIPT, include_bytes!("../../web/loudness.js")),
    ("/notifications.js", SCRIPT, include_bytes!("../../web/notifications.js")),
    ("/edges.js", SCRIPT, include_bytes!("../../web/edges.js")),
    ("/listeners.js", SCRIPT, include_bytes!("../../web/listeners.js")),
    ("/sparkline.js", SCRIPT, include_bytes!("../../web/sparkline.js")),
    ("/session.js", SCRIPT, include_bytes!("../../web/session.js")),
    ("/share.js", SCRIPT, include_bytes!("../../web/share.js")),
    ("/player.js", SCRIPT, include_bytes!("../../web/player.js")),
    ("/now_playing.js", SCRIPT, include_bytes!("../../web/now_playing.js")),
    ("/live.js", SCRIPT, include_bytes!("../../web/live.js")),
    ("/output_clock.js", SCRIPT, include_bytes!("../../web/output_clock.js")),
    ("/element.js", SCRIPT, include_bytes!("../../web/element.js")),
    ("/latency.js", SCRIPT, include_bytes!("../../web/latency.js")),
    ("/spectrogram.js", SCRIPT, include_bytes!("../../web/spectrogram.js")),
    ("/receiver.js", SCRIPT, include_bytes!("../../web/receiver.js")),
    ("/adaptation.js", SCRIPT, include_bytes!("../../web/adaptation.js")),
    ("/arrivals.js", SCRIPT, include_bytes!("../../web/arrivals.js")),
    ("/message.js", SCRIPT, include_bytes!("../../web/message.js")),
    ("/clock.js", SCRIPT, include_bytes!("../../web/clock.js")),
    ("/opus.js", SCRIPT, include_bytes!("../../web/opus.js")),
    ("/worklet.js", SCRIPT, include_bytes!("../../web/worklet.js")),
    ("/playout.js", SCRIPT, include_bytes!("../../web/playout.js")),
    ("/ring.js", SCRIPT, include_bytes!("../../web/ring.js")),
    ("/jitter.js", SCRIPT, include_bytes!("../../web/jitter.js")),
    ("/resampler.js", SCRIPT, include_bytes!("../../web/resampler.js")),
    ("/conceal.js", SCRIPT, include_bytes!("../../web/conceal.js")),
];

/// Returns the file at `path`.
pub(super) fn file(path: &str) -> Option<PageFile> {
    let (_, content_type, bytes) = FILES.iter().find(|(file, ..)| *file == path)?;
    Some(PageFile { content_type, bytes })
}
