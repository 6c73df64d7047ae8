//! The segments that a playlist names, and those that it named a while ago.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

/// Length of a segment. A shorter one comes sooner and costs more requests.
pub const SEGMENT_SPAN: Duration = Duration::from_secs(2);
/// Segments in a playlist: players begin three before its end, and one that was late by ten seconds finds its place again.
pub(super) const LISTED: usize = 8;
/// Segments that are kept. A segment that no playlist names any more is there for as long again, because a player or a cache may still have a
/// playlist with it (RFC 8216, section 6.2.2).
const KEPT: usize = 2 * LISTED;

/// Some seconds of sound in a fragment of MP4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number: how many times [`SEGMENT_SPAN`] lie before it in the stream.
    pub number: u64,
    /// Its length: [`SEGMENT_SPAN`], to a block; the last one of a stream may be shorter.
    pub span: Duration,
    /// When its first sound was captured, in nanoseconds of Unix time, as the clock stood when it was made.
    pub captured_at: u64,
    /// The fragment.
    pub bytes: Bytes,
}

/// A segment with a number, if it is there.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// It is there.
    Segment(Segment),
    /// It is not kept any more, or was never made.
    Expired,
    /// It will be made.
    Future,
}

/// The newest segments, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Window {
    segments: VecDeque<Segment>,
    /// The number of the first one in the playlist.
    listed_from: u64,
    /// One past the number of the last one that was made, kept when the segments are gone.
    next: u64,
}

impl Window {
    /// Adds a segment. Its number is the next one, unless sound is missing for so long that the playlist begins anew with it.
    pub(super) fn push(&mut self, segment: Segment) {
        if self.segments.is_empty() || segment.number != self.next {
            self.listed_from = segment.number;
        }
        self.next = segment.number + 1;
        self.listed_from = self.listed_from.max(self.next.saturating_sub(LISTED as u64));
        self.segments.push_back(segment);
        if self.segments.len() > KEPT {
            self.segments.pop_front();
        }
    }

    /// Returns the segments of the playlist.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.number >= self.listed_from)
    }

    pub(super) fn find(&self, number: u64) -> Found {
        match self.segments.iter().find(|segment| segment.number == number) {
            Some(segment) => Found::Segment(segment.clone()),
            None if number < self.next => Found::Expired,
            None => Found::Future,
        }
    }

    /// Returns the number of the first segment that is not made yet. A segment is never made twice: it could have other bytes.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Forgets all segments.
    pub(super) fn clear(&mut self) {
        self.segments.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(numbers: impl IntoIterator<Item = u64>) -> Window {
        let mut window = Window::default();
        for number in numbers {
            window.push(Segment { number, span: SEGMENT_SPAN, captured_at: 0, bytes: Bytes::new() });
        }
        window
    }

    fn listed(window: &Window) -> Vec<u64> {
        window.listed().map(|segment| segment.number).collect()
    }

    #[test]
    fn a_segment_stays_for_as_long_again_as_a_playlist_has_named_it() {
        let window = pushed(100..130);
        assert_eq!(listed(&window), (122..130).collect::<Vec<_>>());
        for (number, is_there) in [(113, false), (114, true), (129, true), (130, false)] {
            assert_eq!(matches!(window.find(number), Found::Segment(_)), is_there, "{number}");
        }
        assert_eq!((window.find(113), window.find(130)), (Found::Expired, Found::Future));
    }

    #[test]
    fn a_playlist_has_no_hole() {
        let window = pushed([5, 6, 7, 9, 10]);
        assert_eq!(listed(&window), [9, 10]);
        assert!(matches!(window.find(7), Found::Segment(_)), "a player may still ask for it");
        assert_eq!(window.find(8), Found::Expired);
    }

    #[test]
    fn numbers_go_on_after_all_segments_are_forgotten() {
        let mut window = pushed(0..3);
        window.clear();
        assert_eq!((window.next(), window.find(2)), (3, Found::Expired));
        window.push(Segment { number: 3, span: SEGMENT_SPAN, captured_at: 0, bytes: Bytes::new() });
        assert_eq!(listed(&window), [3]);
    }
}
