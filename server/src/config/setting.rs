//! The table of settings: how each is called in a file, in the environment and as a flag.

use aircheck_api::span;

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Source,
    Loop,
    Listen,
    Block,
    Buffer,
    History,
    Overflow,
    MaxLag,
    SocketBuffer,
    MaxListeners,
    Record,
    RecordSplit,
    Rate,
    Channels,
    Sample,
    AllowHosts,
    AllowOrigins,
}

/// How a setting is written in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// An integer.
    Number,
    /// A boolean.
    Switch,
    /// An array of strings; elsewhere, words with commas between.
    List,
}

impl Key {
    /// All settings, in the order in which people think of them.
    pub(crate) const ALL: [Self; 17] = [
        Self::Source,
        Self::Loop,
        Self::Listen,
        Self::Block,
        Self::Buffer,
        Self::History,
        Self::Overflow,
        Self::MaxLag,
        Self::SocketBuffer,
        Self::MaxListeners,
        Self::Record,
        Self::RecordSplit,
        Self::Rate,
        Self::Channels,
        Self::Sample,
        Self::AllowHosts,
        Self::AllowOrigins,
    ];

    /// Names in a file, in the environment and as a flag.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Source => ("source", "AIRCHECK_SOURCE", "--source"),
            Self::Loop => ("loop", "AIRCHECK_LOOP", "--loop"),
            Self::Listen => ("listen", "AIRCHECK_LISTEN", "--listen"),
            Self::Block => ("block", "AIRCHECK_BLOCK", "--block"),
            Self::Buffer => ("buffer", "AIRCHECK_BUFFER", "--buffer"),
            Self::History => ("history", "AIRCHECK_HISTORY", "--history"),
            Self::Overflow => ("overflow", "AIRCHECK_OVERFLOW", "--overflow"),
            Self::MaxLag => ("max_lag", "AIRCHECK_MAX_LAG", "--max-lag"),
            Self::SocketBuffer => ("socket_buffer", "AIRCHECK_SOCKET_BUFFER", "--socket-buffer"),
            Self::MaxListeners => ("max_listeners", "AIRCHECK_MAX_LISTENERS", "--max-listeners"),
            Self::Record => ("record", "AIRCHECK_RECORD", "--record"),
            Self::RecordSplit => ("record_split", "AIRCHECK_RECORD_SPLIT", "--record-split"),
            Self::Rate => ("rate", "AIRCHECK_RATE", "--rate"),
            Self::Channels => ("channels", "AIRCHECK_CHANNELS", "--channels"),
            Self::Sample => ("sample", "AIRCHECK_SAMPLE", "--sample"),
            Self::AllowHosts => ("allow_hosts", "AIRCHECK_ALLOW_HOST", "--allow-host"),
            Self::AllowOrigins => ("allow_origins", "AIRCHECK_ALLOW_ORIGIN", "--allow-origin"),
        }
    }

    /// Its name in a file.
    pub(crate) const fn name(self) -> &'static str {
        self.names().0
    }

    /// Its environment variable.
    pub(crate) const fn env(self) -> &'static str {
        self.names().1
    }

    /// Its flag.
    pub(crate) const fn flag(self) -> &'static str {
        self.names().2
    }

    /// How it is written in a file.
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Loop => Kind::Switch,
            Self::MaxListeners | Self::Rate | Self::Channels => Kind::Number,
            Self::AllowHosts | Self::AllowOrigins => Kind::List,
            _ => Kind::Text,
        }
    }

    /// What it takes, for messages: `must be {takes}`.
    pub(super) const fn takes(self) -> &'static str {
        match self {
            Self::Source => super::source::TAKES,
            Self::Loop => "true or false",
            Self::Listen => "ADDR:PORT such as 127.0.0.1:8700, [::1]:8700 or localhost:8700",
            Self::Block | Self::Buffer | Self::History | Self::SocketBuffer => span::TAKES,
            Self::MaxLag => "a duration such as \"2s\", or off",
            Self::Overflow => "skip-to-live, drop-newest, latest or disconnect",
            Self::MaxListeners => "a number from 1 to 100000",
            Self::Record => "a directory, or off",
            Self::RecordSplit => super::split::TAKES,
            Self::Rate => "a number of Hz from 1 to 768000",
            Self::Channels => "a number from 1 to 32",
            Self::Sample => "s16le, s24le or f32le",
            Self::AllowHosts => "host names such as radio.example, without scheme or port",
            Self::AllowOrigins => "origins such as https://radio.example or http://localhost:3000, without a path",
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    File { path: String, line: usize },
    Env,
    Flag,
}

impl Origin {
    /// The setting as the user wrote it, for the beginning of a message.
    pub(super) fn subject(&self, key: Key) -> String {
        match self {
            Self::Default => format!("`{}`", key.name()),
            Self::File { path, line } => format!("{path}:{line}: `{}`", key.name()),
            Self::Env => key.env().to_owned(),
            Self::Flag => key.flag().to_owned(),
        }
    }
}
