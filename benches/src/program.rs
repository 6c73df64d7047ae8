//! A program in a process of its own.

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// A running program, which is killed when this is dropped.
#[derive(Debug)]
pub struct Program(pub Child);

impl Program {
    /// Starts a server that prints `listening on http://ADDRESS/`, or `https://`, and returns it with its address.
    ///
    /// # Errors
    ///
    /// When it does not start, or prints something else.
    pub fn announced(command: &mut Command) -> Result<(Self, SocketAddr), Box<dyn Error + Send + Sync>> {
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut program = Self(process);
        let mut line = String::new();
        BufReader::new(program.0.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let url = line.trim().strip_prefix("listening on ").and_then(|url| url.split_once("://"));
        let (_, authority) = url.ok_or("the server did not start")?;
        Ok((program, authority.trim_end_matches('/').parse()?))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
