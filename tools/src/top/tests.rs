//! The whole screen without a terminal: keys in, lines out.

use aircheck_api::{ListenerRow, StreamState};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

use super::draw::draw;
use super::fixture::{row, status};
use super::keys::Action;
use super::snapshot::Snapshot;
use super::state::{Contact, Mode, State};
use super::theme::Theme;
use super::watch::Update;
use super::{once, row as rows_of};
use crate::client::Disconnected;

const THEME: Theme = Theme { has_colour: true };

fn state(rows: Vec<ListenerRow>) -> State {
    State::new("127.0.0.1:8700".to_owned(), Snapshot::new(status(), rows, 0.0))
}

fn three() -> State {
    state(vec![row(1, "kitchen", 0.02), row(2, "frozen", 12.0), row(3, "hall", 0.5)])
}

fn drawn(state: &mut State, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, THEME, 10.0)).unwrap();
    terminal
}

fn lines(state: &mut State, width: u16, height: u16) -> Vec<String> {
    let terminal = drawn(state, width, height);
    let cells = terminal.backend().buffer().content();
    cells.chunks(usize::from(width)).map(|line| line.iter().map(|cell| cell.symbol()).collect()).collect()
}

/// Returns the names in the first column, from above, and the one that is marked.
fn names(state: &mut State) -> (Vec<String>, Option<String>) {
    let known: Vec<String> = state.snapshot().rows.iter().map(rows_of::title).collect();
    let lines = lines(state, 120, 40);
    let rows = lines.iter().skip_while(|line| !line.contains("listener  ")).skip(1);
    let at_start = |line: &&String, name: &String| line.trim_start_matches(['▶', ' ']).starts_with(name.as_str());
    let mut marked = None;
    let mut found = Vec::new();
    for line in rows.take_while(|line| !line.trim().is_empty()) {
        let name = known.iter().find(|name| at_start(&line, name)).unwrap();
        if line.starts_with('▶') {
            marked = Some(name.clone());
        }
        found.push(name.clone());
    }
    (found, marked)
}

fn press(state: &mut State, keys: &[KeyCode]) -> Action {
    let pressed = |_, key: &KeyCode| state.press(KeyEvent::new(*key, KeyModifiers::NONE), 10.0);
    keys.iter().fold(Action::Nothing, pressed)
}

fn typed(state: &mut State, text: &str) -> Action {
    press(state, &text.chars().map(KeyCode::Char).collect::<Vec<_>>())
}

#[test]
fn the_worst_stands_first_with_its_fault() {
    let lines = lines(&mut three(), 120, 40);
    let first = lines.iter().find(|line| line.contains("frozen")).unwrap();
    for word in ["wav", "12.0 s", "does not read", "its machine 12.0 s"] {
        assert!(first.contains(word), "{word} in {first}");
    }
    assert_eq!(names(&mut three()).0, ["frozen", "hall", "kitchen"]);
    assert!(lines[0].contains("ON AIR") && lines[0].contains("tone, 440 Hz"));
    assert!(lines[1].contains("3 of 1,000 listeners · up 2 min 5 s · 48 kHz stereo · 10 ms blocks"));
    assert!(lines[3].contains("12,500 blocks · lost 3 xrun 0 overflow · ring p50 0.210 ms p99 1.2 ms"));
}

#[test]
fn a_lost_source_and_its_fallback_are_shown() {
    let mut lost = status();
    lost.state = StreamState::Fallback;
    lost.source.failure = Some("microphone `x`: the device is gone".to_owned());
    lost.source.lost_since = Some(lost.now - 75.0);
    lost.capture.lost_source = 7500;
    let mut state = State::new("127.0.0.1:8700".to_owned(), Snapshot::new(lost, Vec::new(), 0.0));
    let text = lines(&mut state, 120, 40).join("\n");
    for words in ["FALLBACK", "source lost for 1 min 15 s: microphone", "lost 7,500 source 3 xrun 0 overflow"] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn what_is_not_known_of_a_lag_is_shown() {
    let healthy = row(1, "kitchen", 0.02);
    let reads = ListenerRow { state: "reads".to_owned(), ..healthy.clone() };
    let titles = |rows| once::text(&state(rows), once::DEFAULT_WIDTH).lines().nth(6).unwrap().to_owned();
    assert!(!titles(vec![reads.clone()]).contains("between"), "{}", titles(vec![reads.clone()]));

    let uncertain = ListenerRow {
        state: "probably slower than it comes: 8 % behind each second".to_owned(),
        lag_at_least_seconds: Some(1.12),
        lag_at_most_seconds: Some(9.83),
        ..row(2, "hall", 3.2)
    };
    let rows = vec![reads, uncertain.clone()];
    let text = once::text(&state(rows.clone()), once::DEFAULT_WIDTH);
    let line = text.lines().find(|line| line.contains("hall")).unwrap();
    assert!(line.contains(" 3.20 s  1.1 to 9.8 s ") && line.contains(&uncertain.state), "{text}");
    let healthy = text.lines().find(|line| line.contains("kitchen")).unwrap();
    assert!(!healthy.contains("reads"), "{text}");

    // On a smaller screen it stands below the table.
    let mut state = state(rows);
    press(&mut state, &[KeyCode::Down]);
    let screen = lines(&mut state, 110, 24).join("\n");
    assert!(screen.contains(&uncertain.state) && screen.contains("(1.1 to 9.8 s)"), "{screen}");
}

#[test]
fn every_size_is_drawn_and_keeps_the_worst_listener() {
    let mut state = three();
    press(&mut state, &[KeyCode::Down]);
    for width in 1..130 {
        for height in 1..30 {
            let lines = lines(&mut state, width, height);
            let has = |word: &str| lines.iter().any(|line| line.contains(word));
            let is_large_enough = width >= 40 && height >= 10;
            assert_eq!(has("frozen") && has("12.0 s") && has("q quit"), is_large_enough, "{width} x {height}");
        }
    }
    assert_eq!(lines(&mut state, 39, 9)[0].trim(), "40 x 10 needed, 39 x 9 here");
}

#[test]
fn columns_stand_below_each_other_with_any_names() {
    let names = ["日本語の名前", "e\u{301}tage", "🎧 ear", "", "a name that is longer than its column is wide"];
    let rows = names.iter().enumerate().map(|(id, name)| row(id as u64, name, 0.0)).collect();
    let text = once::text(&state(rows), once::DEFAULT_WIDTH);
    let column = |line: &str| line[..line.find(" wav ").unwrap()].width();
    let at: Vec<usize> = text.lines().filter(|line| line.contains(" wav ")).map(column).collect();
    assert_eq!(at.len(), names.len());
    assert!(at.iter().all(|place| *place == at[0]), "{at:?} in\n{text}");
}

#[test]
fn the_selection_follows_the_listener_not_its_place() {
    let mut state = three();
    press(&mut state, &[KeyCode::Down]);
    assert_eq!(names(&mut state).1.unwrap(), "frozen");
    let rows = vec![row(1, "kitchen", 3.0), row(2, "frozen", 0.0), row(3, "hall", 0.5)];
    state.take(Update::Listeners(rows), 1.0);
    assert_eq!(names(&mut state), (["kitchen", "hall", "frozen"].map(str::to_owned).to_vec(), Some("frozen".into())));
    // When it leaves, the listener in its place is selected.
    state.take(Update::Listeners(vec![row(1, "kitchen", 3.0), row(3, "hall", 0.5)]), 2.0);
    assert_eq!(names(&mut state).1.unwrap(), "hall");
    state.take(Update::Listeners(Vec::new()), 3.0);
    assert_eq!(state.selected, None);
}

#[test]
fn a_long_table_scrolls_with_the_selection() {
    let mut state = state((0..100).map(|id| row(id, &format!("n{id:02}"), 0.0)).collect());
    let has = |state: &mut State, name: &str| lines(state, 80, 24).iter().any(|line| line.contains(name));
    assert!(has(&mut state, "n00") && !has(&mut state, "n99"));
    press(&mut state, &[KeyCode::End]);
    assert!(has(&mut state, "n99") && !has(&mut state, "n00"));
    press(&mut state, &[KeyCode::PageUp]);
    assert_eq!(state.selected, Some(99 - (state.page as u64 - 1)));
    press(&mut state, &[KeyCode::Home, KeyCode::PageDown, KeyCode::Up]);
    assert_eq!(state.selected, Some(state.page as u64 - 2));
}

#[test]
fn s_and_r_change_the_order() {
    let mut state = three();
    typed(&mut state, "r");
    assert_eq!(names(&mut state).0, ["kitchen", "hall", "frozen"]);
    typed(&mut state, "ss");
    assert_eq!(names(&mut state).0, ["frozen", "hall", "kitchen"]);
    typed(&mut state, "s");
    assert_eq!(names(&mut state).0, ["kitchen", "frozen", "hall"]);
}

#[test]
fn a_filter_hides_the_others_until_esc() {
    let mut state = three();
    // Keys are letters here.
    typed(&mut state, "/kqs");
    assert_eq!(state.filter, "kqs");
    assert!(names(&mut state).0.is_empty());
    press(&mut state, &[KeyCode::Backspace, KeyCode::Backspace, KeyCode::Enter]);
    assert_eq!(names(&mut state).0, ["kitchen"]);
    assert_eq!(press(&mut state, &[KeyCode::Esc]), Action::Nothing);
    assert_eq!(names(&mut state).0.len(), 3);
    assert_eq!(press(&mut state, &[KeyCode::Esc]), Action::Quit);
}

#[test]
fn a_listener_is_disconnected_only_after_a_yes() {
    let mut state = three();
    typed(&mut state, "k");
    assert_eq!(state.mode, Mode::Table);
    assert!(state.message(10.0).unwrap().contains("select"));
    press(&mut state, &[KeyCode::Down]);
    typed(&mut state, "k");
    assert!(lines(&mut state, 80, 24)[23].contains("y / n: disconnect frozen?"));
    // The rows move under the question, which keeps its listener.
    state.take(Update::Listeners(vec![row(1, "kitchen", 30.0), row(2, "frozen", 0.0)]), 1.0);
    assert_eq!(typed(&mut state, "xk "), Action::Nothing);
    assert!(matches!(state.mode, Mode::Question { id: 2, .. }));
    assert_eq!(typed(&mut state, "n"), Action::Nothing);
    assert_eq!(state.mode, Mode::Table);
    assert_eq!(typed(&mut state, "ky"), Action::Disconnect { id: 2, title: "frozen".to_owned() });
    state.disconnected("frozen", &Disconnected::Done, 10.0);
    assert!(lines(&mut state, 80, 24)[23].contains("frozen disconnected"));
    assert_eq!(state.message(16.0), None);
}

#[test]
fn p_holds_the_figures_still() {
    let mut state = three();
    typed(&mut state, "p");
    state.take(Update::Listeners(vec![row(9, "new", 0.0)]), 1.0);
    assert_eq!(names(&mut state).0.len(), 3);
    assert!(lines(&mut state, 80, 24).iter().any(|line| line.contains("HELD")));
    typed(&mut state, "p");
    assert_eq!(names(&mut state).0, ["new"]);
}

#[test]
fn without_contact_the_last_figures_stay_but_are_greyed() {
    let mut state = three();
    state.take(Update::Unreachable("connection refused".to_owned()), 3.0);
    state.take(Update::Unreachable("connection refused".to_owned()), 4.0);
    let lines_now = lines(&mut state, 80, 24);
    assert!(lines_now[0].contains("NO CONTACT") && !lines_now[0].contains("ON AIR"));
    assert!(lines_now[2].contains("no contact for 7 s, trying again: connection refused"), "{}", lines_now[2]);
    let greyed = |state: &mut State| {
        let terminal = drawn(state, 80, 24);
        let cells = terminal.backend().buffer().content().to_vec();
        let mut stale = cells[80..2 * 80].iter().chain(&cells[3 * 80..23 * 80]);
        stale.all(|cell| cell.fg == Color::Reset && cell.modifier == Modifier::DIM)
    };
    assert!(lines_now.iter().any(|line| line.contains("12.0 s")));
    assert!(greyed(&mut state));
    state.take(Update::Status(Box::new(status())), 5.0);
    assert_eq!(state.contact, Contact::Fine);
    assert!(lines(&mut state, 80, 24)[0].contains("ON AIR"));
    assert!(!greyed(&mut state));
}

#[test]
fn another_run_of_the_server_clears_the_selection() {
    let mut state = three();
    press(&mut state, &[KeyCode::Down, KeyCode::Char('k')]);
    let mut another = status();
    another.started_at += 60.0;
    state.take(Update::Status(Box::new(another)), 5.0);
    assert_eq!((state.selected, state.mode.clone()), (None, Mode::Table));
}

#[test]
fn without_colours_nothing_has_one() {
    let mut state = three();
    press(&mut state, &[KeyCode::Down]);
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
    terminal.draw(|frame| draw(frame, &mut state, Theme { has_colour: false }, 10.0)).unwrap();
    let is_plain = |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
    assert!(terminal.backend().buffer().content().iter().all(is_plain));
}

#[test]
fn the_help_shows_every_key_and_ends_with_any() {
    let mut state = three();
    typed(&mut state, "?");
    let shown = lines(&mut state, 80, 24).join("\n");
    for (key, does) in super::keys::HELP {
        assert!(shown.contains(key) && shown.contains(does), "{key} {does} in\n{shown}");
    }
    assert_eq!(typed(&mut state, "q"), Action::Nothing);
    assert_eq!(state.mode, Mode::Table);
    assert_eq!(typed(&mut state, "q"), Action::Quit);
}
