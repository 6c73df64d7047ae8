//! `aircheckctl` against the real `aircheck` over https and wss: the certificate must be trusted, and then all goes as without TLS.

mod aircheck;

use aircheck::{Listening, Server, number};
use serde_json::Value;

#[test]
fn a_certificate_that_is_not_trusted_is_refused_with_its_fingerprint() {
    let server = Server::start(&["--source", "tone:440", "--tls-self-signed"]);
    let url = format!("https://{}/", server.authority);
    for (command, arguments) in [("listen", vec![&*url, "--for", "1s"]), ("top", vec![&*url, "--once"])] {
        let ended = Listening::command(command, &arguments).finish();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let fingerprint = ended.notices.split("SHA-256 ").nth(1).and_then(|rest| rest.split(' ').next());
        let fingerprint = fingerprint.unwrap_or_else(|| panic!("a fingerprint: {ended:?}"));
        assert!(server.log().contains(&format!("SHA-256 {fingerprint}")), "{ended:?}");
        assert!(ended.notices.contains("--cacert"), "{ended:?}");
    }
}

#[test]
fn listeners_by_wss_and_https_get_what_the_server_delivers() {
    let server = Server::start(&["--source", "tone:440", "--tls-self-signed"]);
    let certificate = server.certificate();
    let certificate = certificate.to_str().expect("UTF-8");
    let url = format!("wss://{}/", server.authority);
    let ended = Listening::command("listen", &[&url, "--cacert", certificate, "--for", "1s", "--strict"]).finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for format in ["opus", "ws"] {
        let url = format!("https://{}/", server.authority);
        let arguments = ["--cacert", certificate, "--format", format, "--listeners", "10", "--for", "2s", "--json"];
        let ended = Listening::command("load", &[&[&*url], &arguments[..]].concat()).finish();
        let object: Value = serde_json::from_str(&ended.summary).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        assert_eq!(object["disagreements"], Value::Array(vec![]), "{ended:?}");
        assert_eq!(
            (number(&object, "compared_rows"), number(&object["kinds"]["healthy"], "lost")),
            (10, 0),
            "{ended:?}"
        );
    }
}
