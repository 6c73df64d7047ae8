//! The page: each test is a script of `page/` that Node runs, most of them against this program in one Chromium that
//! Playwright controls. `make setup-test` installs what they need.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page")
}

/// The browser that all scripts share. It ends when its stdin closes, which is with this process.
struct Browser {
    _process: Child,
    endpoint: String,
}

impl Browser {
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Browser> = OnceLock::new();
        SHARED.get_or_init(|| {
            assert!(
                directory().join("node_modules/playwright-core").exists(),
                "Playwright is not installed: `make setup-test` or `npm ci` in {}",
                directory().display()
            );
            let mut node = Command::new("node");
            node.arg("support/shared-browser.js").current_dir(directory()).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut process = node.spawn().expect("Node runs: Debian's package is nodejs");
            let mut endpoint = String::new();
            BufReader::new(process.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
            Self { _process: process, endpoint: endpoint.trim().to_owned() }
        })
    }
}

/// Runs a script that needs no browser.
fn run(script: &str) {
    run_with(script, &mut Command::new("node"));
}

/// Runs a script in the shared browser. One at a time: the sound that a browser plays is compared with the sound that is
/// sent, some scripts stop all processes of the browser, and a small machine can play only so much at once.
fn run_in_browser(script: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut node = Command::new("node");
    node.env("AIRCHECK_BROWSER_ENDPOINT", &Browser::shared().endpoint);
    node.env("AIRCHECK_PROGRAM", env!("CARGO_BIN_EXE_aircheck"));
    if std::env::var_os("AIRCHECK_PICTURES").is_none() {
        // Beside `target/tmp`.
        let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("page");
        println!("pictures are in {}", pictures.display());
        node.env("AIRCHECK_PICTURES", pictures);
    }
    run_with(script, &mut node);
}

fn run_with(script: &str, node: &mut Command) {
    node.args(["--test", "--test-reporter", "spec", script]).current_dir(directory());
    let output = node.output().expect("Node runs: Debian's package is nodejs");
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {}", output.status);
}

/// All scripts. `make test` runs this module beside all other tests.
mod scripts {
    use super::{run, run_in_browser};

    #[test]
    fn the_clock_and_messages() {
        run("clock.test.js");
    }

    #[test]
    fn the_player_conceals_losses_and_stays_live() {
        run("playout.test.js");
    }

    #[test]
    fn what_arrives_tells_of_the_way() {
        run("arrivals.test.js");
    }

    #[test]
    fn the_form_of_the_sound_follows_the_link() {
        run("adaptation.test.js");
    }

    #[test]
    fn the_output_s_latency_is_right_or_said_to_be_unknown() {
        run("output_clock.test.js");
    }

    #[test]
    fn the_player_stays_live_for_an_hour() {
        run("hour.test.js");
    }

    #[test]
    fn the_microphone_is_played_and_listeners_are_disconnected() {
        run_in_browser("playback.test.js");
    }

    #[test]
    fn the_page_recovers_from_interruptions() {
        run_in_browser("recovery.test.js");
    }

    #[test]
    fn opus_is_played_where_the_browser_decodes_it() {
        run_in_browser("opus.test.js");
    }

    #[test]
    fn the_page_asks_for_a_token_and_plays_by_the_cookie() {
        run_in_browser("session.test.js");
    }

    #[test]
    fn the_page_loads_behind_a_proxy_that_changes_its_host() {
        run_in_browser("rewritten_host.test.js");
    }

    #[test]
    fn a_frozen_listener_stands_out_in_the_table() {
        run_in_browser("listener-table.test.js");
    }

    #[test]
    fn badges_and_the_fallback_to_the_browser_s_own_player() {
        run_in_browser("fallback.test.js");
    }

    #[test]
    fn the_page_plays_behind_a_proxy_that_passes_no_websockets_on() {
        run_in_browser("proxy.test.js");
    }

    #[test]
    fn several_mounts_are_shown_and_switched() {
        run_in_browser("mounts.test.js");
    }

    #[test]
    fn the_listeners_of_several_servers_are_shown() {
        run_in_browser("audience.test.js");
    }

    #[test]
    fn hls_is_heard_on_another_site() {
        run_in_browser("hls.test.js");
    }

    #[test]
    fn the_bitrate_follows_a_link_that_narrows_and_widens() {
        run_in_browser("link.test.js");
    }

    #[test]
    fn the_page_says_in_the_field_what_is_wrong() {
        run_in_browser("field.test.js");
    }

    #[test]
    fn the_page_can_be_installed() {
        run_in_browser("installable.test.js");
    }

    #[test]
    fn a_title_is_shown_when_it_is_heard() {
        run_in_browser("titles.test.js");
    }

    #[test]
    fn the_device_names_the_sound_and_stops_it() {
        run_in_browser("now_playing.test.js");
    }

    #[test]
    fn every_state_of_the_page_is_accessible() {
        run_in_browser("accessibility.test.js");
    }
}
