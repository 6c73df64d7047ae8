//! The socket below a listener.

pub(crate) mod hold;
pub(crate) mod in_flight;
pub mod options;
mod ping;
mod read_proof;
mod receive_queue;
pub(crate) mod receive_window;
pub mod silence;
pub mod tcp_info;
