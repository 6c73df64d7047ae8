//! The configuration: the schema, its layers and its errors.
//!
//! A value comes from the defaults, a TOML file, the environment or a flag; each of these beats the ones before it. Each
//! layer is checked in full, so that a mistake is reported even where a later layer hides it. A message is one line: the
//! place, the fault, and values that work.
//!
//! The files, each of which uses only those above it:
//!
//! - `value`: a value as it was given; `notation` and `number`: the ways to read one, with `nats_url`, `edge_name`, `source`, `on_loss`, `origin`,
//!   `network`, `notify`, `push`, `record_split`, `record_keep`, `tokens` and `mount_table` for those with more to read.
//! - `schema`: the settings, one field each. Its first lines tell how to add one.
//! - `settings`: the table of settings that flags, variables, keys and the documentation come from.
//! - `check`: rules between settings.
//! - `read`: from values to a [`Config`], with a mount for each table.
//! - `file` and `layers`: from a file, the environment and flags to a [`Config`].
//! - `changes`: what is different in the mounts of a file that is read again.
//! - `report`, `given`, `values` and [`cli`]: the table of `check-config`, the settings for `doctor`, the changes of a file that is
//!   read again, and the command line.

mod changes;
mod check;
pub mod cli;
mod edge_name;
mod error;
mod file;
#[cfg(test)]
mod fuzz;
mod given;
mod layers;
mod listen;
mod mount_table;
mod nats_url;
mod network;
mod notation;
mod notify;
mod number;
mod on_loss;
mod origin;
mod pace;
mod publish_format;
mod push;
mod read;
mod record_keep;
mod record_split;
mod report;
mod schema;
mod settings;
mod source;
mod tokens;
mod value;
mod values;

pub use changes::changes;
pub use edge_name::{edge_name_of, is_edge_name};
pub use error::ConfigError;
pub use given::Given;
pub use listen::ListenAddress;
pub use nats_url::NatsUrl;
pub use notify::Level;
pub use on_loss::{FallbackSpec, LossPolicy};
pub use pace::Pace;
pub use publish_format::PublishFormat;
pub use push::PushTarget;
pub use record_keep::{RecordFormat, RecordKeep, Size};
pub use record_split::RecordSplit;
pub use report::Checked;
pub use schema::{
    AudienceConfig, CaptureConfig, Config, DeliveryConfig, HttpConfig, MIN_LAG_BLOCKS, MountConfig, NotifyConfig,
    PublishConfig, RecorderConfig, SilenceConfig,
};
pub use settings::{Setting, settings};
pub use source::SourceSpec;
pub use value::ValueError;
pub use values::Values;
