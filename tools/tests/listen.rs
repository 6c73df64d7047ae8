//! The real `aircheckctl listen` against a small server of the test's own, over TCP.

mod served;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output};

use served::{HEAD, Served, aircheckctl, block, end, finish, gap, send, wav_bits};

fn run(args: &[&str]) -> Output {
    finish(aircheckctl(args).spawn().expect("it should start"))
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it should not die of a signal")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// The lines of stderr that are complaints, which must be exactly one.
fn complaint(output: &Output) -> String {
    let text = stderr(output);
    let complaints: Vec<&str> = text.lines().filter(|line| line.starts_with("aircheckctl: ")).collect();
    assert_eq!(complaints.len(), 1, "one complaint in {text:?}");
    complaints[0].to_owned()
}

fn expected_bits(sequences: impl IntoIterator<Item = u64>) -> Vec<u32> {
    sequences.into_iter().flat_map(|sequence| served::samples(sequence).map(f32::to_bits)).collect()
}

#[test]
fn records_exactly_what_was_sent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take.wav");
    let server = Served::new(|tcp| {
        send(tcp, HEAD);
        for sequence in 100..300 {
            send(tcp, &served::chunk(&block(sequence)));
        }
        end(tcp);
    });
    let output = run(&[&server.url("/?name=x&burst=1s"), "-o", path.to_str().unwrap(), "--strict"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(wav_bits(&path), expected_bits(100..300));
    let summary = stdout(&output);
    assert!(summary.contains("200 blocks, 1600 frames"), "{summary}");
    assert!(summary.contains("lost      nothing"), "{summary}");
    assert!(summary.contains("take.wav"), "{summary}");
    let request = server.request();
    assert!(request.starts_with("GET /stream.json?name=x&burst=1s HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains("\r\nhost: 127.0.0.1:"), "{request}");
}

#[test]
fn lines_may_be_split_anywhere() {
    let text: String = (0..5).map(block).chain([gap(5, 2, "overflow")]).chain((7..9).map(block)).collect();
    for size in [1, 2, 3, 7, 64, 1000] {
        let text = text.clone();
        let server = Served::new(move |tcp| {
            send(tcp, HEAD);
            for piece in text.as_bytes().chunks(size) {
                send(tcp, &served::chunk(std::str::from_utf8(piece).unwrap()));
            }
            end(tcp);
        });
        let output = run(&[&server.url("/")]);
        assert_eq!(code(&output), 0, "pieces of {size}: {}", stderr(&output));
        assert!(stdout(&output).contains("7 blocks, 56 frames"), "pieces of {size}: {}", stdout(&output));
        assert!(stdout(&output).contains("2 blocks in 1 gap"), "pieces of {size}: {}", stdout(&output));
    }
}

fn lossy() -> Served {
    Served::new(|tcp| {
        send(tcp, HEAD);
        let lines = [block(0), gap(1, 3, "overflow"), block(4), gap(5, 1, "skipped"), block(6), gap(7, 2, "overflow")];
        send(tcp, &served::chunk(&lines.concat()));
        end(tcp);
    })
}

#[test]
fn gaps_are_counted_and_left_out_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take.wav");
    let output = run(&[&lossy().url("/stream.json"), "-o", path.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(wav_bits(&path), expected_bits([0, 4, 6]));
    let (said, summary) = (stderr(&output), stdout(&output));
    assert!(said.contains("gap: 3 blocks from 1 (overflow), 0.5 ms\n"), "{said}");
    assert!(said.contains("gap: 2 blocks from 7 (overflow)"), "a loss at the very end is one: {said}");
    assert!(summary.contains("6 blocks in 3 gaps, the longest 3 (0.5 ms); overflow 5, skipped 1"), "{summary}");
    assert!(!summary.contains("faults"), "{summary}");
}

#[test]
fn strict_exits_with_3_if_anything_was_lost() {
    let output = run(&[&lossy().url("/"), "--strict"]);
    assert_eq!(code(&output), 3);
    assert!(complaint(&output).contains("6 blocks lost"));
}

#[test]
fn a_hole_that_nobody_announced_is_found() {
    let silent = || {
        Served::new(|tcp| {
            send(tcp, HEAD);
            send(tcp, &served::chunk(&[block(0), block(1), block(4)].concat()));
            end(tcp);
        })
    };
    let output = run(&[&silent().url("/")]);
    assert_eq!(code(&output), 0);
    assert!(stderr(&output).contains("fault: 2 blocks from 2 missing, and no gap line says so"), "{}", stderr(&output));
    assert!(stdout(&output).contains("unannounced 2"), "{}", stdout(&output));
    assert!(stdout(&output).contains("faults    2 blocks missing without a gap line"), "{}", stdout(&output));
    assert_eq!(code(&run(&[&silent().url("/"), "--strict"])), 3);
}

#[test]
fn a_gap_line_that_contradicts_the_sequence_fails_strict_though_all_came() {
    let server = Served::new(|tcp| {
        send(tcp, HEAD);
        send(tcp, &served::chunk(&[block(0), gap(1, 3, "overflow"), block(1)].concat()));
        end(tcp);
    });
    let output = run(&[&server.url("/"), "--strict"]);
    assert_eq!(code(&output), 3, "{}", stdout(&output));
    assert!(stdout(&output).contains("lost      nothing"), "{}", stdout(&output));
    assert!(stdout(&output).contains("1 gap line contradicted"), "{}", stdout(&output));
}

#[test]
fn what_is_missing_from_the_asked_start_is_lost() {
    let server = Served::new(|tcp| {
        send(tcp, HEAD);
        send(tcp, &served::chunk(&[gap(0, 5, "history"), block(5)].concat()));
        end(tcp);
    });
    let output = run(&[&server.url("/?from=0")]);
    assert!(stdout(&output).contains("history 5"), "{}", stdout(&output));
    assert!(!stdout(&output).contains("faults"), "{}", stdout(&output));
}

#[test]
fn a_flood_of_gaps_is_told_in_few_lines() {
    let server = Served::new(|tcp| {
        send(tcp, HEAD);
        let lines: String = (0..500).flat_map(|n| [block(2 * n), gap(2 * n + 1, 1, "overflow")]).collect();
        send(tcp, &served::chunk(&lines));
        end(tcp);
    });
    let output = run(&[&server.url("/")]);
    let said = stderr(&output);
    let told: u64 = said.lines().filter(|line| line.starts_with("gap: ")).count() as u64;
    let held_back: u64 =
        said.lines().filter_map(|line| line.strip_prefix("… ")?.strip_suffix(" more gaps")?.parse::<u64>().ok()).sum();
    assert_eq!(told + held_back, 500, "{said}");
    assert!(held_back > 0, "{said}");
    assert!(stdout(&output).contains("500 blocks in 500 gaps"), "{}", stdout(&output));
}

#[test]
fn the_server_s_own_words_are_shown_when_it_refuses() {
    let refusing = |status: &'static str, headers: &'static str, body: &'static str| {
        let length = body.len();
        Served::new(move |tcp| {
            send(tcp, &format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"));
        })
    };
    let cases = [
        ("404 Not Found", "", r#"{"error":"no such path"}"#, "no such path (HTTP 404)"),
        (
            "503 Busy",
            "Retry-After: 5\r\n",
            r#"{"error":"full: 10 listeners"}"#,
            "full: 10 listeners (HTTP 503); try again in 5 s",
        ),
        ("400 Bad", "", "{\"error\":\"from: \\u001b[2J\"}", "from: \u{fffd}[2J (HTTP 400)"),
        ("403 Forbidden", "", "<html>", "forbidden (HTTP 403)"),
    ];
    for (status, headers, body, words) in cases {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("take.wav");
        fs::write(&path, "an older recording").unwrap();
        let output = run(&[&refusing(status, headers, body).url("/"), "-o", path.to_str().unwrap()]);
        assert_eq!(code(&output), 1);
        let complaint = complaint(&output);
        assert!(complaint.contains(words), "{complaint:?} should say {words:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "an older recording");
    }
}

#[test]
fn a_cut_connection_is_an_error_with_the_recording_kept() {
    let directory = tempfile::tempdir().unwrap();
    // In the middle of a chunk, between chunks, and in the middle of a line that the chunks end with.
    let ends: [fn() -> String; 3] =
        [|| "ffff\r\n{\"sequence\":2,".to_owned(), String::new, || served::chunk("{\"sequence\":2,") + "0\r\n\r\n"];
    for (number, ending) in ends.into_iter().enumerate() {
        let path = directory.path().join(format!("{number}.wav"));
        let server = Served::new(move |tcp| {
            send(tcp, HEAD);
            send(tcp, &served::chunk(&[block(0), block(1)].concat()));
            send(tcp, &ending());
        });
        let output = run(&[&server.url("/"), "-o", path.to_str().unwrap()]);
        assert_eq!(code(&output), 1, "ending {number}");
        assert!(complaint(&output).contains("connection lost: "), "{}", complaint(&output));
        assert_eq!(wav_bits(&path), expected_bits(0..2), "ending {number}");
        assert!(stdout(&output).contains("2 blocks, 16 frames"), "{}", stdout(&output));
    }
}

#[test]
fn garbage_is_one_clear_line() {
    let server = Served::new(|tcp| {
        send(tcp, HEAD);
        send(tcp, &served::chunk(&block(0)));
        send(tcp, &served::chunk("hello \u{1b}[31m there\n"));
        end(tcp);
    });
    let output = run(&[&server.url("/")]);
    assert_eq!(code(&output), 1);
    let complaint = complaint(&output);
    assert!(
        complaint.contains("line 2 of the stream makes no sense: not a JSON object: hello \u{fffd}[31m"),
        "{complaint}"
    );
}

#[test]
fn an_answer_without_the_format_is_no_stream() {
    let head = HEAD.replace("X-Audio-Rate: 48000\r\n", "");
    let server = Served::new(move |tcp| send(tcp, &head));
    let output = run(&[&server.url("/")]);
    assert_eq!(code(&output), 1);
    assert!(complaint(&output).contains("no X-Audio-Rate header"), "{}", complaint(&output));
}

#[test]
fn what_isn_t_http_is_told() {
    let server = Served::new(|tcp| send(tcp, "SSH-2.0-OpenSSH_9.2\r\n"));
    let output = run(&[&server.url("/")]);
    assert_eq!(code(&output), 1);
    assert!(complaint(&output).contains("no HTTP answer"), "{}", complaint(&output));
}

#[test]
fn nobody_there_is_told() {
    // Bound and closed again: nothing listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(&[&address.to_string()]);
    assert_eq!(code(&output), 1);
    assert_eq!(complaint(&output), format!("aircheckctl: can't connect to {address}: Connection refused"));
    assert_eq!(stdout(&output), "");
}

#[test]
fn wrong_usage_is_one_line_and_2() {
    let cases: [(&[&str], &str); 5] = [
        (&["http://h:1/stream.wav"], "gaps can't be seen in /stream.wav; use http://h:1/"),
        (&["https://h/"], "https is not supported"),
        (&["ht tp"], "not a URL"),
        (&["h:1", "--for", "ages"], "--for"),
        (&[], "<URL>"),
    ];
    for (args, words) in cases {
        let output = run(args);
        assert_eq!(code(&output), 2, "{args:?}");
        assert!(complaint(&output).contains(words), "{}", complaint(&output));
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
}

#[test]
fn a_file_that_can_t_be_written_is_an_error() {
    let endless = || {
        Served::new(|tcp| {
            send(tcp, HEAD);
            (0..).find(|&sequence| tcp.write_all(served::chunk(&block(sequence)).as_bytes()).is_err());
        })
    };
    let output = run(&[&endless().url("/"), "-o", "/nonexistent/take.wav"]);
    assert_eq!(code(&output), 1);
    assert!(complaint(&output).contains("can't write /nonexistent/take.wav: No such file"), "{}", complaint(&output));
    // A file that opens, but takes nothing.
    let output = run(&[&endless().url("/"), "-o", "/dev/full"]);
    assert_eq!(code(&output), 1);
    assert!(complaint(&output).contains("can't write /dev/full: No space left"), "{}", complaint(&output));
}

#[test]
fn for_ends_an_endless_stream() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take.wav");
    let server = Served::new(|tcp| {
        send(tcp, HEAD);
        (0..).find(|&sequence| tcp.write_all(served::chunk(&block(sequence)).as_bytes()).is_err());
    });
    let output = run(&[&server.url("/"), "--for", "200ms", "--strict", "-o", path.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let bits = wav_bits(&path);
    let blocks = bits.len() / served::samples(0).len();
    assert!(blocks > 0);
    assert_eq!(bits, expected_bits(0..blocks as u64));
}

#[test]
fn for_also_ends_when_nothing_comes() {
    let server = Served::new(|tcp| {
        send(tcp, HEAD);
        served::until_closed(tcp);
    });
    let output = run(&[&server.url("/"), "--for", "1ms"]);
    assert_eq!(code(&output), 1);
    assert!(complaint(&output).contains("nothing came"), "{}", complaint(&output));
}

#[test]
fn a_signal_completes_the_recording() {
    for signal in ["TERM", "INT", "HUP"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("take.wav");
        let server = Served::new(|tcp| {
            send(tcp, HEAD);
            let lines: String = (0..50).map(block).chain([gap(50, 1, "overflow")]).collect();
            send(tcp, &served::chunk(&lines));
            served::until_closed(tcp);
        });
        let mut child = aircheckctl(&[&server.url("/"), "-o", path.to_str().unwrap()]).spawn().unwrap();
        // The gap is told when it has been read, and so has everything before it.
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("gap: ") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended before the gap");
        }
        let killed = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap();
        assert!(killed.success());
        let output = finish(child);
        assert_eq!(code(&output), 0, "{signal}");
        assert_eq!(wav_bits(&path), expected_bits(0..50), "{signal}");
        assert!(stdout(&output).contains("50 blocks, 400 frames"), "{}", stdout(&output));
    }
}
