//! Playlists of sound files: M3U and PLS.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aircheck_api::Metadata;

/// The longest playlist: some ten thousand entries.
const MAX_BYTES: u64 = 4 << 20;

/// A file of a playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path.
    pub(super) path: PathBuf,
    /// What the playlist says of it, for a file that says nothing itself.
    pub(super) metadata: Metadata,
}

/// Returns whether a path is that of a playlist, by its name.
pub(super) fn is_playlist(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["m3u", "m3u8", "pls"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Reads the playlist at `path`. Entries with relative paths start at its directory.
///
/// # Errors
///
/// When it cannot be read, is too long, or has no entries.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let told = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let bytes = read_bytes(path).map_err(|error| told(&format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).unwrap_or_else(|error| latin_1(error.as_bytes()));
    let is_pls = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("pls"));
    let entries = if is_pls { pls(&text) } else { m3u(&text) };
    let directory = path.parent().unwrap_or(Path::new(""));
    let entries: Vec<_> =
        entries.into_iter().map(|entry| Entry { path: directory.join(&entry.path), ..entry }).collect();
    if entries.is_empty() { Err(told(&"the playlist has no entries")) } else { Ok(entries) }
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is longer than {} MiB, so it is no playlist", MAX_BYTES >> 20)));
    }
    Ok(bytes)
}

/// Returns the text of bytes that are not UTF-8: in `.m3u`, names of files are in the encoding of the machine that wrote it.
fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Reads a list with a path on each line. A line `#EXTINF:SECONDS,ARTIST - TITLE` tells of the next one.
fn m3u(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut title = "";
    for line in text.trim_start_matches('\u{feff}').lines().map(str::trim) {
        if let Some(told) = line.strip_prefix("#EXTINF:") {
            title = told.split_once(',').map_or("", |(_, title)| title);
        } else if !line.is_empty() && !line.starts_with('#') {
            entries.push(Entry { path: line.into(), metadata: titled(std::mem::take(&mut title)) });
        }
    }
    entries
}

/// Reads a list with lines `FileN=PATH` and `TitleN=TITLE`.
fn pls(text: &str) -> Vec<Entry> {
    let mut entries = BTreeMap::<u32, (Option<&str>, &str)>::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        let number = |kind: &str| key.strip_prefix(kind).and_then(|number| number.parse().ok());
        if let Some(number) = number("file").filter(|_| !value.is_empty()) {
            entries.entry(number).or_default().0 = Some(value);
        } else if let Some(number) = number("title") {
            entries.entry(number).or_default().1 = value;
        }
    }
    let entry = |(path, title): (Option<&str>, &str)| Some(Entry { path: path?.into(), metadata: titled(title) });
    entries.into_values().filter_map(entry).collect()
}

/// Returns the metadata of a line, in which most programs write the artist first.
fn titled(line: &str) -> Metadata {
    let (artist, title) = match line.split_once(" - ") {
        Some((artist, title)) => (Some(artist), title),
        None => (None, line),
    };
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    Metadata { title: some(title), artist: artist.and_then(some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(entries: Vec<Entry>) -> Vec<(String, Option<String>)> {
        entries.into_iter().map(|entry| (entry.path.display().to_string(), entry.metadata.line())).collect()
    }

    fn read_text(name: &str, bytes: &[u8]) -> Result<Vec<(String, Option<String>)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let there = format!("{}/", folder.path().display());
        let entries = read(&path).map(shown).map_err(|error| error.replace(&there, ""))?;
        Ok(entries.into_iter().map(|(path, line)| (path.replace(&there, ""), line)).collect())
    }

    fn entry(path: &str, line: Option<&str>) -> (String, Option<String>) {
        (path.to_owned(), line.map(str::to_owned))
    }

    #[test]
    fn both_kinds_are_read() {
        let m3u = "\u{feff}#EXTM3U\r\n#EXTINF:12,The Owls - Night train\r\na b.mp3\r\n\r\n/c.ogg\n#EXTINF:9\nd.wav";
        let expected = [entry("a b.mp3", Some("The Owls - Night train")), entry("/c.ogg", None), entry("d.wav", None)];
        assert_eq!(read_text("x.m3u8", m3u.as_bytes()).unwrap(), expected);
        let pls = "[playlist]\nFile10=z.mp3\nTitle2=News\nFile2= y.flac\nLength2=5\nTitle3=no file\nNumberOfEntries=2";
        assert_eq!(read_text("x.PLS", pls.as_bytes()).unwrap(), [entry("y.flac", Some("News")), entry("z.mp3", None)]);
        assert_eq!(read_text("x.m3u", b"\xfcber.mp3\n").unwrap(), [entry("\u{fc}ber.mp3", None)]);
    }

    #[test]
    fn what_is_no_playlist_is_told() {
        assert_eq!(read_text("x.m3u", b"# nothing\n").unwrap_err(), "x.m3u: the playlist has no entries");
        let long = vec![b'a'; MAX_BYTES as usize + 1];
        assert!(read_text("x.m3u", &long).unwrap_err().ends_with("it is longer than 4 MiB, so it is no playlist"));
        assert!(read(Path::new("/there/is/none.m3u")).unwrap_err().contains("none.m3u: cannot be read: No such file"));
        assert!(is_playlist(Path::new("a.M3U8")) && !is_playlist(Path::new("a.mp3")) && !is_playlist(Path::new("m3u")));
    }
}
