use super::*;
use crate::delivery::look_budget::LookBudget;

const BYTES: u64 = 1000;

/// A connection whose writes are all acknowledged, and looked at before the next one.
struct Connection {
    proof: ReadProof,
    now: Timestamp,
    socket: TcpInfo,
    bytes: u64,
    packet_bytes: u64,
    /// By how much each acknowledgement widens the window; as the complement, by how much it narrows it.
    window_step: u64,
}

impl Connection {
    /// Makes one whose next write is the first test.
    fn new() -> Self {
        Self::after(0)
    }

    /// Makes one like [`new`](Self::new) after `written` bytes of other responses.
    fn after(written: u64) -> Self {
        let socket = TcpInfo {
            window_bytes: Some(64_000),
            min_round_trip: Some(Duration::from_millis(80)),
            segment_bytes: 1448,
            acked_bytes: written,
            ..TcpInfo::default()
        };
        let mut connection = Self {
            proof: ReadProof::default(),
            now: Timestamp::from_nanos(1 << 40),
            socket,
            bytes: BYTES,
            packet_bytes: BYTES,
            window_step: 0,
        };
        connection.proof.begin(written, connection.now);
        let proofs = (1..QUICK_ACKS).filter(|_| connection.write(100, 80)).count();
        assert_eq!(proofs, 0, "while the far kernel acknowledges everything at once");
        connection
    }

    /// Writes a packet `gap` ms after the one before, which is acknowledged after `delay` ms, and looks then. Returns whether that
    /// proves anything.
    fn write(&mut self, gap: u64, delay: u64) -> bool {
        self.now = self.now + Duration::from_millis(gap);
        self.proof.judge(&self.socket, self.now);
        let end = self.socket.acked_bytes + self.bytes;
        self.proof.wrote(end, self.bytes, self.packet_bytes, Duration::from_millis(gap), self.now);
        self.socket.acked_bytes = end;
        self.socket.window_bytes = self.socket.window_bytes.map(|window| window.wrapping_add(self.window_step));
        self.socket.since_ack = Duration::from_millis(3);
        self.proof.judge(&self.socket, self.now + Duration::from_millis(delay + 3))
    }

    /// Returns how many of 40 writes prove something.
    fn proofs(&mut self, gap: u64, delay: u64) -> usize {
        (0..40).filter(|_| self.write(gap, delay)).count()
    }
}

#[test]
fn a_prompt_acknowledgement_proves_that_everything_was_read() {
    let mut connection = Connection::new();
    // Five at first, and then two about a second apart.
    assert_eq!((0..5).filter(|_| connection.write(100, 80)).count(), 0);
    assert!((3..=4).contains(&connection.proofs(100, 80)));
    assert_eq!(connection.proof.result(), Some(Reading::Prompt));
    assert!((3..=4).contains(&connection.proofs(100, 95)), "of a link whose delay varies");
    assert!(connection.proof.proven() >= 90 * BYTES);
}

#[test]
fn a_late_acknowledgement_proves_nothing() {
    let mut connection = Connection::new();
    assert_eq!(connection.proofs(100, 121), 0);
    assert_eq!((connection.proof.proven(), connection.proof.result()), (0, Some(Reading::Late)));
    assert!(connection.proof.lates() >= 30, "{}", connection.proof.lates());
    let first_proof = (1..20).find(|_| connection.write(100, 80));
    assert_eq!(first_proof, Some(7), "it reads again: a few may be prompt by chance");
    assert_eq!(connection.proof.result(), Some(Reading::Prompt));
}

/// A listener whose kernel is looked at only when that is wanted, before a page each 100 ms.
struct Pages {
    connection: Connection,
    /// Milliseconds from one to the next.
    gap: u64,
    acked_at: Timestamp,
    looks: usize,
    proofs: usize,
}

impl Pages {
    /// Makes one that has read everything for so many seconds.
    fn after(seconds: u64) -> Self {
        let mut connection = Connection::new();
        connection.socket.min_round_trip = Some(Duration::from_micros(20));
        let acked_at = connection.now;
        let mut pages = Self { connection, gap: 100, acked_at, looks: 0, proofs: 0 };
        pages.write(10 * seconds, 0, 1);
        pages
    }

    /// Makes one of single packets of Opus instead.
    fn of_short_packets_after(seconds: u64) -> Self {
        let mut pages = Self::after(0);
        pages.gap = 10;
        (pages.connection.bytes, pages.connection.packet_bytes) = (150, 150);
        pages.write(100 * seconds, 0, 1);
        pages
    }

    /// Writes so many pages, which are acknowledged after `delay` ms by so many segments each.
    fn write(&mut self, pages: u64, delay: u64, segments: u32) {
        for _ in 0..pages {
            let Connection { proof, now, socket, bytes, .. } = &mut self.connection;
            let gap = Duration::from_millis(self.gap);
            *now = *now + gap;
            if proof.wants_look(*now) {
                socket.since_ack = now.since(self.acked_at);
                self.proofs += usize::from(proof.judge(socket, *now));
                self.looks += 1;
            }
            let end = socket.acked_bytes + *bytes;
            proof.wrote(end, *bytes, *bytes, gap, *now);
            socket.acked_bytes = end;
            socket.received_segments += segments;
            self.acked_at = *now + Duration::from_millis(delay);
        }
    }

    fn proof(&self) -> &ReadProof {
        &self.connection.proof
    }

    fn unproven(&self) -> u64 {
        self.connection.socket.acked_bytes - self.proof().proven()
    }
}

#[test]
fn two_looks_a_second_show_that_pages_are_read_and_that_they_are_not() {
    let mut pages = Pages::after(5);
    (pages.looks, pages.proofs) = (0, 0);
    for _ in 0..100 {
        pages.write(1, 0, 1);
        assert!(pages.unproven() <= 11 * BYTES, "{}", pages.unproven());
    }
    assert!(pages.looks <= 20 && pages.proofs >= 19, "{} proofs by {} looks", pages.proofs, pages.looks);
    let proven = pages.proof().proven();
    pages.write(6, 42, 1);
    assert_eq!(pages.proof().result(), Some(Reading::Late), "half a second after it has stopped to read");
    pages.write(100, 42, 1);
    assert!(pages.proof().proven() <= proven + 5 * BYTES);
}

/// The far kernel acknowledges each at once, read or not, so that these looks would show nothing.
#[test]
fn pages_of_half_a_second_have_no_looks_for_a_test() {
    for delay in [0, 42] {
        let mut pages = Pages::after(0);
        pages.gap = 500;
        pages.write(10, delay, 1);
        pages.looks = 0;
        pages.write(100, delay, 1);
        assert_eq!((pages.looks, pages.proofs), (0, 0), "{delay} ms");
    }
}

#[test]
fn four_looks_a_second_show_that_short_packets_are_read() {
    let mut packets = Pages::of_short_packets_after(5);
    (packets.looks, packets.proofs) = (0, 0);
    packets.write(1000, 0, 1);
    assert!(packets.looks <= 44 && packets.proofs >= 10, "{} proofs by {} looks", packets.proofs, packets.looks);
}

/// Pages of a listener whose shard has five thousand others, all of them late, so that it has its looks in turns.
struct Turns {
    pages: Pages,
    budget: LookBudget,
}

impl Turns {
    fn after(seconds: u64) -> Self {
        let mut turns = Self { pages: Pages::after(seconds), budget: LookBudget::of_shard() };
        // After this second, the budget is spent.
        turns.write(10, 0);
        turns.pages.looks = 0;
        turns
    }

    /// Writes so many pages, which are acknowledged after `delay` ms.
    fn write(&mut self, pages: u64, delay: u64) {
        for _ in 0..pages {
            let Connection { proof, now, .. } = &mut self.pages.connection;
            let page_at = *now + Duration::from_millis(100);
            let slice = LookBudget::slice_at(page_at);
            (1..=5000).for_each(|id| _ = self.budget.grant(id, slice));
            let has_look = !proof.wants_more_looks(page_at) || self.budget.grant(0, slice);
            proof.postpone(!has_look);
            self.pages.write(1, delay, 1);
        }
    }
}

#[test]
fn a_late_listener_that_has_its_looks_in_turns_stays_late_from_turn_to_turn_and_is_proven_within_one() {
    let mut turns = Turns::after(5);
    turns.write(100, 0);
    assert!(turns.pages.unproven() <= 11 * BYTES && turns.pages.looks <= 20, "one that reads: {}", turns.pages.looks);
    let proven = turns.pages.proof().proven();
    turns.write(25, 42);
    turns.pages.looks = 0;
    for _ in 0..300 {
        turns.write(1, 42);
        assert_eq!(turns.pages.proof().result(), Some(Reading::Late));
    }
    assert!(turns.pages.looks <= 2 * 30 + 12, "{} looks in 30 s", turns.pages.looks);
    assert!(turns.pages.proof().lates() >= 12 * (5 - 1), "{}", turns.pages.proof().lates());
    assert!(turns.pages.proof().proven() <= proven + 5 * BYTES);
    // It reads again: five tests in a row prove that in its next turn, or in the one after that.
    turns.write(50, 0);
    assert_eq!(turns.pages.proof().result(), Some(Reading::Prompt));
    assert!(turns.pages.unproven() <= 11 * BYTES);
}

#[test]
fn pages_of_a_late_listener_wait_in_its_turns_alone() {
    let mut waits = [0, 0];
    // A turn has as many tests as there are delays, so how many were late before it decides on the one after it.
    for lates in 3..8 {
        let mut turns = Turns::after(5);
        turns.pages.write(lates, 42, 1);
        for _ in 0..100 {
            turns.write(1, 42);
            let proof = turns.pages.proof();
            waits[usize::from(proof.is_postponed())] += usize::from(proof.wait() != Wait::Not);
        }
    }
    assert!(waits[0] >= 50 && waits[1] == 0, "{waits:?}");
}

#[test]
fn the_first_test_of_all_waits_for_no_turn() {
    let mut connection = Connection::new();
    connection.proof.postpone(true);
    assert!(connection.proof.is_first_test_near());
    connection.proof.postpone(!connection.proof.is_first_test_near());
    (0..2).for_each(|_| _ = connection.write(100, 121));
    assert_eq!(connection.proof.result(), Some(Reading::Late));
    assert!(!connection.proof.is_first_test_near(), "there was one");
}

#[test]
fn a_listener_that_waits_for_its_turn_has_no_looks_at_pages_that_are_acknowledged_at_once_anyway() {
    let looks_after_a_pause = |is_postponed| {
        let mut pages = Pages::after(5);
        pages.write(20, 42, 1);
        pages.connection.proof.postpone(is_postponed);
        // As after a pause of the server.
        pages.connection.proof.quick_acks = QUICK_ACKS;
        pages.looks = 0;
        pages.write(u64::from(QUICK_ACKS) - 2, 0, 1);
        assert!(!pages.proof().is_test_near() && pages.proof().wants_more_looks(pages.connection.now));
        pages.looks
    };
    assert_eq!(looks_after_a_pause(false), usize::from(QUICK_ACKS) - 2);
    assert_eq!(looks_after_a_pause(true), 1, "that of the test before the pause");
}

#[test]
fn a_count_that_is_not_that_of_the_writes_proves_nothing() {
    let mut pages = Pages::after(5);
    // The last segment comes before the one before is acknowledged, and both are acknowledged at once.
    pages.write(1, 0, 0);
    let proven = pages.proof().proven();
    pages.write(5, 0, 1);
    assert!(pages.proof().proven() <= proven + 5 * BYTES);
    // Each of a program that writes for itself comes with a segment more. One look before each test, and two after it, tell.
    (pages.looks, pages.proofs) = (0, 0);
    pages.write(100, 0, 2);
    assert!((8..12).contains(&pages.proofs), "{} proofs by {} looks", pages.proofs, pages.looks);
    // A window that has narrowed is that of a program that does not read, also if its kernel acknowledges at once.
    let mut pages = Pages::after(5);
    let proven = pages.proof().proven();
    pages.connection.socket.window_bytes = Some(60_000);
    pages.write(5, 0, 1);
    assert!(pages.proof().proven() <= proven + 5 * BYTES);
}

#[test]
fn a_window_that_widens_takes_back_what_one_prompt_acknowledgement_showed() {
    let mut connection = Connection::after(500);
    assert!(!connection.write(100, 80));
    assert!(connection.proof.has_prompt());
    assert_eq!(connection.proof.last_prompt(), connection.socket.acked_bytes);
    connection.window_step = 1024;
    connection.write(100, 80);
    assert!(!connection.proof.has_prompt(), "the bytes of other responses before it prove nothing");
    assert_eq!(connection.proof.last_prompt(), 500);
}

#[test]
fn one_prompt_acknowledgement_shortens_the_row_of_late_ones_and_two_end_it() {
    let mut connection = Connection::new();
    connection.proofs(100, 121);
    assert!(connection.proof.lates() > 2 * MAX_LATE_AFTER_PROMPT);
    // A far kernel that raises its limits acknowledges one segment at once, read or not.
    connection.write(100, 80);
    assert_eq!(connection.proof.lates(), MAX_LATE_AFTER_PROMPT);
    connection.write(100, 121);
    connection.write(100, 80);
    assert_eq!(connection.proof.lates(), MAX_LATE_AFTER_PROMPT.div_ceil(2));
    connection.write(100, 80);
    assert_eq!(connection.proof.lates(), 0);
    let mut short = Connection { bytes: 400, packet_bytes: 400, ..Connection::new() };
    short.proofs(100, 121);
    short.write(100, 80);
    assert_eq!(short.proof.lates(), 0, "of packets without a trace in the window");
}

#[test]
fn what_a_kernel_acknowledges_at_once_anyway_is_no_test() {
    assert_eq!(Connection::new().proofs(290, 80), 0, "after a pause longer than its timeout of 280 ms");
    assert!(Connection::new().proofs(250, 80) > 0, "after a shorter one");
    let mut large = Connection { bytes: 1449, ..Connection::new() };
    let proofs = [(); 9].map(|()| large.write(100, 80));
    assert!(proofs.iter().all(|is_proven| !is_proven), "in more than one segment, the first 32 KiB");
    assert!(large.proofs(100, 80) > 0, "a window that stays the same");
    let mut lossy = Connection::new();
    lossy.socket.retransmits += 1;
    assert_eq!((1..QUICK_ACKS).filter(|_| lossy.write(100, 80)).count(), 0, "after a loss");
    assert!(lossy.proofs(100, 80) > 0);
    let mut widening = Connection::new();
    widening.window_step = 2920;
    assert_eq!(widening.proofs(100, 80), 0, "while the window widens");
    widening.window_step = 0;
    assert_eq!((1..40).find(|_| widening.write(100, 80)), Some(10), "some time after it is as wide as it gets");
    let mut narrowing = Connection::new();
    narrowing.window_step = 0_u64.wrapping_sub(128);
    assert_eq!(narrowing.proofs(100, 80), 0, "while the window narrows by what comes");
    let mut narrow = Connection::new();
    assert!(narrow.proofs(100, 80) > 0);
    let proven = narrow.proof.proven();
    narrow.socket.window_bytes = Some(38_000);
    narrow.proofs(100, 80);
    assert!(narrow.proof.proven() <= proven + 3 * BYTES, "of a window that each read opens");
}

#[test]
fn a_kernel_that_raises_its_limits_unseen_proves_nothing_until_that_would_show() {
    let mut connection = Connection { bytes: 150, ..Connection::new() };
    // Five are prompt, and the window widens with the sixth.
    assert!((0..6).all(|_| !connection.write(100, 80)));
    connection.window_step = 1024;
    assert!((0..2).all(|_| !connection.write(100, 80)));
    connection.window_step = 0;
    assert!((0..4).all(|_| !connection.write(100, 80)));
    assert_eq!(connection.proof.proven(), 0);
    assert!(connection.proofs(100, 80) > 0);
}

/// Writes packets each 10 ms over 80 ms, which are acknowledged `delay` ms after they have come, those of 40 ms together if that is
/// long. Returns the connection after so many seconds.
fn over_a_long_path(delay: u64, seconds: u64) -> Connection {
    let mut connection = Connection::new();
    let start = connection.now;
    let mut acks: Vec<(u64, u64)> = Vec::new();
    for packet in 1..100 * seconds {
        connection.now = start + Duration::from_millis(10 * packet);
        let group = if delay >= 40 { packet.next_multiple_of(4) } else { packet };
        acks.push((10 * packet + 80 + delay.min(40), group));
        if let Some((at, group)) = acks.iter().rfind(|(at, group)| *at <= 10 * packet && *group <= packet) {
            connection.socket.acked_bytes = connection.socket.acked_bytes.max(20 * BYTES - BYTES + group * BYTES);
            connection.socket.since_ack = Duration::from_millis(10 * packet - at);
        }
        connection.proof.judge(&connection.socket, connection.now);
        let end = 19 * BYTES + packet * BYTES;
        connection.proof.wrote(end, BYTES, BYTES, Duration::from_millis(10), connection.now);
    }
    connection
}

#[test]
fn a_segment_that_arrives_alone_is_a_test_although_others_are_on_their_way() {
    let read = over_a_long_path(0, 4).proof;
    assert!(read.proven() > 100 * BYTES, "{read:?}");
    assert_eq!(read.result(), Some(Reading::Prompt));
    let frozen = over_a_long_path(40, 4).proof;
    assert_eq!((frozen.proven(), frozen.result()), (0, Some(Reading::Late)));
    assert!(frozen.lates() >= 3, "{}", frozen.lates());
}

#[test]
fn packets_in_quick_succession_are_held_only_while_they_are_read_late() {
    let mut connection = Connection::new();
    connection.socket.min_round_trip = Some(Duration::from_micros(20));
    connection.proof.permit_holds();
    // Writes packets of 200 bytes each 10 ms, or those of 50 ms together.
    let mut write = |delay: u64| {
        let is_held = matches!(connection.proof.wait(), Wait::All(_));
        (connection.bytes, connection.packet_bytes) = (if is_held { 1000 } else { 200 }, 200);
        if delay > 0 && !is_held && connection.proof.quick_acks <= 1 {
            // A late acknowledgement makes this kernel send a segment again.
            connection.now = connection.now + Duration::from_millis(10);
            let end = connection.socket.acked_bytes + 200;
            connection.proof.wrote(end, 200, 200, Duration::from_millis(10), connection.now);
            (connection.socket.acked_bytes, connection.socket.retransmits) = (end, connection.socket.retransmits + 1);
            connection.proof.judge(&connection.socket, connection.now + Duration::from_millis(5));
            return (false, false, connection.proof.lates());
        }
        let is_proven = connection.write(if is_held { 50 } else { 10 }, if is_held { delay } else { 0 });
        (is_held, is_proven, connection.proof.lates())
    };
    let of_reader: Vec<_> = (0..1000).map(|_| write(0)).collect();
    let proofs = of_reader.iter().filter(|(_, is_proven, _)| *is_proven).count();
    assert!((8..14).contains(&proofs), "{proofs} proofs in 10 s");
    assert!(of_reader.iter().all(|(is_held, ..)| !is_held));
    // It reads nothing any more: soon, all writes are held.
    let of_frozen: Vec<_> = (0..400).map(|_| write(42)).collect();
    assert!(of_frozen[300..].iter().all(|(is_held, ..)| *is_held), "{of_frozen:?}");
    assert!(of_frozen[399].2 >= 20, "{of_frozen:?}");
    let of_back: Vec<_> = (0..40).map(|_| write(0)).collect();
    assert!(of_back[..16].iter().any(|(_, is_proven, _)| *is_proven) && !of_back[39].0, "{of_back:?}");
}

#[test]
fn a_full_socket_and_a_pause_do_not_make_short_packets_or_pages() {
    let mut connection = Connection { bytes: 967, packet_bytes: 967, ..Connection::new() };
    connection.socket.min_round_trip = Some(Duration::from_micros(20));
    connection.proof.permit_holds();
    (0..50).for_each(|_| _ = connection.write(10, 0));
    // As it does not read any more, each acknowledgement is late.
    (0..100).for_each(|_| _ = connection.write(10, 45));
    assert!(connection.proof.lates() >= MIN_LATE);
    assert!(!connection.proof.is_paged());
    connection.bytes = 267;
    connection.write(10, 45);
    assert_eq!(connection.proof.wait(), Wait::Not, "for the rest of the packet");
    connection.write(600, 45);
    assert!(!connection.proof.is_paged());
}

#[test]
fn pauses_of_the_server_do_not_make_pages_of_packets() {
    let mut connection = Connection::new();
    connection.bytes = 960;
    (0..50).for_each(|_| _ = connection.write(10, 0));
    for gap in [[800; 3], [10; 3], [800; 3]].concat() {
        connection.write(gap, 0);
        assert!(!connection.proof.is_paged());
        // The packets that waited behind the pause go out in one go.
        (10..gap).step_by(10).for_each(|_| _ = connection.write(0, 0));
        assert!(!connection.proof.is_paged());
    }
}

#[test]
fn the_average_round_trip_tells_how_many_were_late() {
    // As it was seen on loopback, 0.4 and 0.9 s after a program had stopped reading: 42 and 43 ms late each.
    assert_eq!(late_packets(Duration::from_micros(18_082), Duration::from_millis(43)), 4);
    assert_eq!(late_packets(Duration::from_micros(29_940), Duration::from_millis(43)), 9);
    assert_eq!(late_packets(Duration::ZERO, Duration::from_millis(40)), 1);
    assert_eq!(late_packets(Duration::from_millis(50), Duration::from_millis(40)), 22, "the average cannot be longer");
}
