//! The arguments of `aircheckctl top`.

use clap::Args;

use crate::client::{Address, TokenArgs};

/// Show in a terminal which listeners lag and why, and how the capture does
///
/// The figures are those of the server's page and API. Listeners that are
/// furthest behind stand first. They can be sorted, filtered and disconnected:
/// `?` shows the keys. If the server goes away its last figures stay, and it is
/// asked again until it is back. With NO_COLOR set there are no colours.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  aircheckctl top localhost
  aircheckctl top http://studio:8700/ --once
  aircheckctl top localhost --mount studio

Exit codes:
  0  quit by q, Esc, Ctrl-C or SIGTERM; or --once was printed
  1  no connection, or not an aircheck server
  2  wrong usage, or there is no terminal"
)]
pub(crate) struct TopArgs {
    /// The server, as HOST, HOST:PORT or http://HOST:PORT/; the port is 8700 unless a URL says otherwise
    #[arg(value_name = "URL", value_parser = Address::parse)]
    pub(crate) address: Address,

    /// Show one mount of the server, its source and its listeners
    ///
    /// Without this, the source is that of the first mount, and the listeners are those of all mounts.
    #[arg(verbatim_doc_comment, long, value_name = "NAME")]
    pub(crate) mount: Option<String>,

    #[command(flatten)]
    pub(crate) token: TokenArgs,

    /// Print all listeners once as plain text, and exit
    ///
    /// As wide as the terminal; with every column if it goes to a file or a pipe.
    #[arg(verbatim_doc_comment, long)]
    pub(crate) once: bool,
}
