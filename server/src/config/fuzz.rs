//! Fuzz targets of the configuration: a file, and each way to write a value.

use std::fmt::{Debug, Display};
use std::fs;
use std::str::FromStr;

use aircheck_fuzz::{assert_one_line, text};
use bolero::check;

use super::layers::Layers;
use super::notation::{Address, Notation as _};
use super::schema::Config;
use super::settings::settings;
use super::value::Value;
use super::{FallbackSpec, Level, LossPolicy, Pace, RecordKeep, RecordSplit, Size, SourceSpec};

const WORDS: [&str; 64] = [
    "=",
    "=",
    "\n",
    "\n",
    "\"",
    "'",
    "[",
    "]",
    "[[",
    "{",
    "}",
    ",",
    "#",
    ".",
    "-",
    "\u{feff}",
    "\u{fc}",
    "\r\n",
    "\\u0000",
    "\"\"\"",
    "true",
    "false",
    "off",
    "1s",
    "10ms",
    "\"10ms\"",
    "\"1s\"",
    "1000000y",
    "584554530872y",
    "0",
    "1",
    "-1",
    "8700",
    "1000",
    "99999999999999999999",
    "1e400",
    "nan",
    "2026-11-27T14:03:00Z",
    "127.0.0.1:8700",
    "[::1]:8700",
    "localhost:0",
    "auto",
    "mic:",
    "wav:",
    "tone:440",
    "tone:1e-320",
    "nats://",
    "h:4222/a.b",
    "stdin",
    "demo",
    "500MB",
    "4GiB",
    "30d",
    "18446744073709551615kB",
    "kB",
    "M",
    "-60dBFS",
    "NaNdBFS",
    "inf",
    "http://h/s3cret",
    "https://h:0/s3cret",
    "u:p@",
    "skip-to-live",
    "block",
];

/// A file with any text is a configuration, or an error of one line that names the file.
#[test]
fn file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aircheck.toml");
    let keys: Vec<&str> = settings().iter().map(|setting| setting.key.as_str()).chain(WORDS).collect();
    let read = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        let mut layers = Layers::default();
        if let Err(error) = layers.file(&path).and_then(|()| layers.finish().map(drop)) {
            let error = error.to_string();
            assert_one_line(&error);
            assert!(error.contains("aircheck.toml"), "{:?}: {error}", String::from_utf8_lossy(content));
        }
    };
    check!().with_max_len(256).for_each(|bytes: &[u8]| {
        read(text(bytes, &keys).as_bytes());
        read(bytes);
    });
}

/// What is nested is not followed to the end of the stack.
#[test]
fn a_file_that_is_nested_too_deep_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aircheck.toml");
    for (start, part) in [("listen = ", "["), ("listen = ", "{a="), ("listen", ".a"), ("[a", ".a"), ("x = [", "{a=[")] {
        fs::write(&path, format!("{start}{}", part.repeat(100_000))).unwrap();
        let error = Layers::default().file(&path).unwrap_err().to_string();
        assert_one_line(&error);
        assert!(error.contains("aircheck.toml:1: "), "{error:.200}");
    }
}

/// Each setting takes a text, or refuses it in words that name no secret.
#[test]
fn value_of_each_setting() {
    check!().with_max_len(48).for_each(|bytes: &[u8]| {
        let Some((number, bytes)) = bytes.split_first() else { return };
        let setting = &settings()[usize::from(*number) % settings().len()];
        let given = text(bytes, &WORDS);
        let read = Config::read(|key| (key == setting.key).then(|| Value::Text(given.clone())));
        let Err(error) = read else { return };
        let error = crate::one_line::one_line(&error.to_string());
        assert_one_line(&error);
        if ["notify", "push"].contains(&&*setting.key) {
            assert!(!error.contains("s3cret") && !error.contains("u:p@"), "{given:?}: {error}");
        }
    });
}

/// Asserts that a value which is read from `text` is written so that it reads back.
fn assert_reads_back<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        match written.parse::<T>() {
            Ok(again) => assert_eq!(again, value, "{text:?} is written {written:?}"),
            Err(error) => panic!("{text:?} is written {written:?}, which does not read back: {error:?}"),
        }
    }
}

#[test]
fn notations() {
    check!().with_max_len(24).for_each(|bytes: &[u8]| {
        let text = text(bytes, &WORDS);
        // User and password are not written.
        if !text.contains(['@', '?']) {
            assert_reads_back::<SourceSpec>(&text);
        }
        assert_reads_back::<FallbackSpec>(&text);
        assert_reads_back::<LossPolicy>(&text);
        assert_reads_back::<Pace>(&text);
        assert_reads_back::<RecordSplit>(&text);
        assert_reads_back::<RecordKeep>(&text);
        assert_reads_back::<Size>(&text);
        assert_reads_back::<Level>(&text);
        if let Ok(address) = Address::read(&text) {
            assert_eq!(Address::read(&address.to_string()), Ok(address));
        }
        if let Some(span) = aircheck_api::span::parse(&text) {
            assert_eq!(aircheck_api::span::parse(&aircheck_api::span::Short(span).to_string()), Some(span), "{text:?}");
        }
        if let Some(moment) = aircheck_api::moment::parse(&text) {
            let second = aircheck_api::moment::parse(&aircheck_api::moment::format(moment));
            assert_eq!(second, Some(moment - moment % 1_000_000_000), "{text:?}");
        }
    });
}

/// A target of notifications shows nothing but its host.
#[test]
fn notification_url() {
    check!().with_max_len(32).for_each(|bytes: &[u8]| {
        let url = format!("{}/s3cret", text(bytes, &WORDS));
        match url.parse::<aircheck_notify::Target>() {
            Ok(target) => {
                let shown = format!("{target} {target:?}");
                assert!(!shown.contains("s3cret") && !shown.contains('@'), "{url:?} is shown as {shown}");
                assert_one_line(&shown);
            }
            Err(error) => {
                let error = error.to_string();
                assert_one_line(&error);
                assert!(!error.contains("s3cret"), "{error}");
            }
        }
    });
}
