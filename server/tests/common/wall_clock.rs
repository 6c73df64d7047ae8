//! A wall clock of a test's own, for one process: the machine's stays as it is.
#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// The wall clock is that of the C library, which this library replaces: it adds the seconds in a file.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *t) {
    long result = syscall(SYS_clock_gettime, id, t);
    if (id == CLOCK_REALTIME && result == 0) {
        char text[32] = {0};
        int file = open(getenv("TEST_CLOCK"), O_RDONLY);
        if (file >= 0) {
            if (read(file, text, sizeof text - 1) > 0) t->tv_sec += atol(text);
            close(file);
        }
    }
    return (int) result;
}
"#;

/// A wall clock that can be set.
pub(crate) struct WallClock {
    folder: TempDir,
}

impl WallClock {
    /// Makes a clock that is right. Returns `None`, and says so, without a C compiler.
    pub(crate) fn new() -> Option<Self> {
        let clock = Self { folder: tempfile::tempdir().unwrap() };
        let source = clock.path("clock.c");
        fs::write(&source, LIBRARY).unwrap();
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([clock.path("clock.so"), source]).status();
        if !compiled.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no C compiler");
            return None;
        }
        clock.set(0);
        Some(clock)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives the process of a command this clock.
    pub(crate) fn give_to<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("LD_PRELOAD", self.path("clock.so")).env("TEST_CLOCK", self.path("clock"))
    }

    /// Sets the clock to so many seconds after the right time.
    pub(crate) fn set(&self, seconds: i64) {
        // Renamed, so that no reading finds an empty file.
        fs::write(self.path("next"), seconds.to_string()).unwrap();
        fs::rename(self.path("next"), self.path("clock")).unwrap();
    }
}
