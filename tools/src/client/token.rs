//! The token of a server, and the places from which it comes.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;

/// The variable of `--token`.
const TOKEN_ENV: &str = "AIRCHECK_TOKEN";
/// Longest file that is read: a token is a short line.
const MAX_FILE_BYTES: u64 = 4096;

/// A token. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    /// Reads a token, without white space around it.
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token is one word, such as ac_… (`aircheck token new` prints one)".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    /// Returns the value of a request's `Authorization`.
    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The arguments by which every command takes a token.
#[derive(Debug, Default, Args)]
pub(crate) struct TokenArgs {
    /// Token of the server; other users of this machine can see it, so better put it into a file or the variable
    ///
    /// [env: AIRCHECK_TOKEN]
    #[arg(long, value_name = "T", value_parser = Token::parse, conflicts_with = "token_file")]
    token: Option<Token>,

    /// File with the token of the server
    #[arg(long, value_name = "F")]
    token_file: Option<PathBuf>,
}

impl TokenArgs {
    /// Returns the token of the flag, the file or the variable, the first that is given.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or has no token. Nothing of its content is in the message.
    pub(crate) fn find(&self) -> Result<Option<Token>, String> {
        self.find_with(std::env::var_os(TOKEN_ENV))
    }

    fn find_with(&self, variable: Option<OsString>) -> Result<Option<Token>, String> {
        if let Some(token) = &self.token {
            return Ok(Some(token.clone()));
        }
        if let Some(path) = &self.token_file {
            let mut text = String::new();
            let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text));
            read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            return Token::parse(&text).map(Some).map_err(|wrong| format!("{}: {wrong}", path.display()));
        }
        let variable = variable.filter(|variable| !variable.is_empty());
        let text = variable.map(|variable| variable.into_string().unwrap_or_default());
        text.map(|text| Token::parse(&text).map_err(|wrong| format!("{TOKEN_ENV}: {wrong}"))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_goes_before_the_variable_and_so_does_a_file() {
        let secret = |args: &TokenArgs, variable: &str| {
            args.find_with(Some(variable.into())).map(|token| token.map(|token| token.secret().to_owned()))
        };
        let mut args = TokenArgs::default();
        assert_eq!(secret(&args, ""), Ok(None));
        assert_eq!(secret(&args, " ac_env\n"), Ok(Some("ac_env".to_owned())));
        assert!(secret(&args, "a b").unwrap_err().starts_with("AIRCHECK_TOKEN: a token is one word"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "ac_file\n").unwrap();
        args.token_file = Some(file.path().into());
        assert_eq!(secret(&args, "ac_env"), Ok(Some("ac_file".to_owned())));
        std::fs::write(file.path(), "two\nlines").unwrap();
        let wrong = secret(&args, "ac_env").unwrap_err();
        assert!(wrong.contains("a token is one word") && !wrong.contains("two"), "{wrong}");
        args.token_file = Some("/nonexistent/token".into());
        assert!(secret(&args, "ac_env").unwrap_err().contains("cannot read /nonexistent/token: "));
        args.token = Some(Token::parse("ac_flag").unwrap());
        assert_eq!(secret(&args, "ac_env"), Ok(Some("ac_flag".to_owned())));
        assert!(!format!("{args:?}").contains("ac_flag"));
    }
}
