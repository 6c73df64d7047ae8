//! Everything that a request can reach: the stream, its encoders, its listeners and what is known of them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::{CaptureTally, Format, Hub, SharedRecorder, Stream, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::Config;
use crate::encoders::Encoders;
use crate::events::Events;
use crate::listener::Spread;
use crate::listeners::Listeners;
use crate::meter::Meter;
use crate::metrics::{Exposition, Metrics};
use crate::record::Recording;

/// A live source that wrote nothing for this long is silent: far beyond any device's period.
const SILENT: Duration = Duration::from_secs(1);
/// What an encoder may fall behind before it skips to live.
const ENCODER_BUFFER: Duration = Duration::from_secs(1);

/// The service around one stream.
#[derive(Debug)]
pub struct Station {
    config: Config,
    format: Format,
    description: String,
    kind: SourceKind,
    started_at: Timestamp,
    sample_bits: Option<u16>,
    hub: Hub<aircheck_engine::Block>,
    capture: Arc<CaptureTally>,
    ring_micros: Arc<SharedRecorder>,
    encoders: Arc<Encoders>,
    listeners: Arc<Listeners>,
    events: Arc<Events>,
    meter: Arc<Meter>,
    metrics: Arc<Metrics>,
    recording: Option<Arc<Recording>>,
}

/// What the sound is, which decides what the page says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A microphone or another input.
    Mic,
    /// A file.
    Wav,
    /// The test tone.
    Tone,
    /// The built-in demo.
    Demo,
    /// Samples from a pipe.
    Stdin,
}

/// Whether sound comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnAir {
    /// It does.
    Live,
    /// It has not come for a while, or has not come yet.
    Silent,
    /// It has ended.
    Ended,
}

impl OnAir {
    /// The state in one word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Silent => "silent",
            Self::Ended => "ended",
        }
    }
}

impl Station {
    /// A station for `stream`, with nobody listening yet.
    ///
    /// # Errors
    ///
    /// When there is no thread for its meter.
    pub fn new(
        config: Config,
        stream: &Stream,
        kind: SourceKind,
        recording: Option<Arc<Recording>>,
    ) -> io::Result<Arc<Self>> {
        let format = stream.format();
        let metrics = Metrics::new(format, Arc::clone(stream.ring_micros()));
        let meter = Meter::start(format.channels(), stream.hub())?;
        let events = Arc::new(Events::new(stream.head().clone()));
        let history = format.blocks_in(config.history) as usize;
        let encoders = Encoders::new(stream.hub().clone(), format, history, format.blocks_in(ENCODER_BUFFER) as usize);
        Ok(Arc::new(Self {
            format,
            description: stream.description().to_owned(),
            kind,
            started_at: Timestamp::now(),
            sample_bits: stream.sample_bits(),
            hub: stream.hub().clone(),
            capture: Arc::clone(stream.capture()),
            ring_micros: Arc::clone(stream.ring_micros()),
            encoders,
            listeners: Listeners::new(format, config.max_listeners, Arc::clone(&events)),
            events,
            meter,
            metrics,
            recording,
            config,
        }))
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Rate, channels and block length.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The encoders.
    #[must_use]
    pub fn encoders(&self) -> &Arc<Encoders> {
        &self.encoders
    }

    /// Who listens.
    #[must_use]
    pub fn listeners(&self) -> &Arc<Listeners> {
        &self.listeners
    }

    /// Bits of a sample with which FLAC loses nothing of an integer source: 24 if it has more than 16.
    #[must_use]
    pub fn flac_bits(&self) -> u32 {
        if self.sample_bits.is_some_and(|bits| bits > 16) { 24 } else { 16 }
    }

    /// What happens.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// What the capture has done so far.
    #[must_use]
    pub fn capture(&self) -> &CaptureTally {
        &self.capture
    }

    /// What Prometheus reads.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// All metrics, as `exposition` has them.
    #[must_use]
    pub fn render_metrics(&self, exposition: Exposition) -> String {
        self.metrics.render(exposition, &self.capture, &self.meter, &self.listeners, self.recording.as_deref())
    }

    /// Whether sound comes.
    #[must_use]
    pub fn on_air(&self) -> OnAir {
        let fresh = |written_at| Timestamp::now().since(written_at) < SILENT;
        if self.hub.is_ended() {
            OnAir::Ended
        } else if self.capture.written_at().is_some_and(fresh) {
            OnAir::Live
        } else {
            OnAir::Silent
        }
    }

    /// What `/api/v1/status` says. A level is `null` where there is no sound.
    #[must_use]
    pub fn status(&self, listen: std::net::SocketAddr) -> Value {
        let on_air = self.on_air();
        let decibels = |level: f32| level.is_finite().then_some(level);
        let level: Vec<_> = self
            .meter
            .levels()
            .map(|level| json!({"peak_dbfs": decibels(level.peak_dbfs), "rms_dbfs": decibels(level.rms_dbfs)}))
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "on_air": on_air == OnAir::Live,
            "state": on_air,
            "source": {
                "description": self.description,
                "kind": self.kind,
                "failure": self.capture.failure(),
            },
            "format": {
                "rate_hz": self.format.rate_hz(),
                "channels": self.format.channels(),
                "block_frames": self.format.block_frames(),
                "block_seconds": self.format.block_span().as_secs_f64(),
            },
            "started_at": self.started_at.unix_seconds(),
            "now": Timestamp::now().unix_seconds(),
            "head_sequence": self.hub.head().next().checked_sub(1),
            "capture": {
                "blocks": self.capture.blocks(),
                "lost_overflow": self.capture.lost_overflow(),
                "lost_xrun": self.capture.lost_xrun(),
            },
            "level": level,
            "latency_seconds": {"ring": Spread::of_micros(self.ring_micros.summary())},
            "listeners": self.listeners.count(),
            "max_listeners": self.config.max_listeners,
            "buffer_seconds": self.config.buffer.as_secs_f64(),
            "max_lag_seconds": self.config.max_lag.map(|max_lag| max_lag.as_secs_f64()),
            "socket_buffer_seconds": self.config.socket_buffer.as_secs_f64(),
            "encoders": self.encoders.running(),
            "recording": self.recording.as_ref().map(|recording| recording.status()),
            "urls": [format!("http://{listen}/")],
        })
    }
}
