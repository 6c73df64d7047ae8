//! Writes manual pages and shell completions into a directory, from the same grammar as `--help`:
//! `aircheck-manual DIRECTORY`.

use std::io;
use std::path::PathBuf;

use clap_complete::Shell;
use clap_complete::aot::generate_to;

fn main() -> io::Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or_else(|| io::Error::other("no directory given (aircheck-manual DIRECTORY)"))?;
    std::fs::create_dir_all(&directory)?;
    for grammar in [aircheck_server::config::cli::grammar(), aircheck_tools::grammar()] {
        // Pages of `help listen` and the like would say nothing that those of `listen` do not say.
        let mut grammar = grammar.disable_help_subcommand(true);
        let name = grammar.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            generate_to(shell, &mut grammar, &name, &directory)?;
        }
        clap_mangen::generate_to(grammar, &directory)?;
    }
    Ok(())
}
