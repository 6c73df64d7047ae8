//! Tokens: which requests may listen, see figures, and change things.
//!
//! A [`token`] has a name, a hash and [`scope`]s. A request brings one as one of several [`credentials`], or comes by a signed
//! URL. The [`policy`] says what a request needs and decides; [`throttle`] counts wrong tokens by address.
//!
//! The folder knows headers and addresses, and nothing of routes, listeners or sound.

pub mod credentials;
#[cfg(test)]
mod fuzz;
pub mod policy;
pub mod scope;
pub mod session;
pub mod throttle;
pub mod token;
