//! `loadgen register`: what a control plane is sent, and what is said of its refusals.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod mock;
mod program;

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    thread,
};

use mock::Mock;
use program::{Scratch, ended, loadgen, run};

#[test]
fn functions_of_a_file_are_registered_and_stay() {
    let (control_plane, scratch) = (Mock::control_plane(), Scratch::new());
    let from = scratch.path("functions.ndjson");
    fs::write(&from, "{\"name\":\"new-1\",\"image\":\"i\",\"memory\":5}\n{\"name\":\"old-1\",\"image\":\"i\"}\n")
        .unwrap();
    let url = format!("http://{}", control_plane.address);
    let (code, printed, errors) = run(&["register", "--from", &from, "--control-plane", &url]);
    assert_eq!((code, printed.as_str()), (0, "2 functions registered, 1 of them new\n"), "{errors}");
    assert_eq!((control_plane.count("PUT new-1"), control_plane.total()), (1, 2));
}

#[test]
fn functions_count_as_registered_once_data_planes_have_acknowledged_them() {
    let (control_plane, scratch) = (Mock::control_plane(), Scratch::new());
    let from = scratch.path("functions.ndjson");
    fs::write(&from, "{\"name\":\"new-1\",\"image\":\"i\"}\n{\"name\":\"third-1\",\"image\":\"i\"}\n").unwrap();
    let url = format!("http://{}", control_plane.address);
    let (code, printed, errors) = run(&["register", "--from", &from, "--control-plane", &url]);
    assert_eq!((code, printed.as_str()), (0, "2 functions registered, 2 of them new\n"), "{errors}");
    assert!(errors.contains("waiting until every data plane has acknowledged 1 functions"), "{errors}");
    assert_eq!((control_plane.count("PUT new-1"), control_plane.count("PUT third-1")), (1, 3));
}

#[test]
fn of_functions_that_could_not_be_registered_the_first_of_the_file_is_reported() {
    let (control_plane, scratch) = (Mock::control_plane(), Scratch::new());
    let from = scratch.path("functions.ndjson");
    let lines =
        |name: &str| (10..50).map(|n| format!("{{\"name\":\"{name}-{n}\",\"image\":\"i\"}}\n")).collect::<String>();
    fs::write(&from, lines("new") + &lines("bad")).unwrap();
    let url = format!("http://{}", control_plane.address);
    let (code, printed, errors) = run(&["register", "--from", &from, "--control-plane", &url]);
    assert_eq!((code, printed.as_str()), (1, ""), "{errors}");
    assert!(errors.contains("40 of 80 functions registered, 40 failed"), "{errors}");
    assert!(errors.contains("the first of them, bad-10 ("), "{errors}");
}

#[test]
fn refusals_of_a_control_plane_name_the_position_in_the_file() {
    let (control_plane, scratch) = (Mock::control_plane(), Scratch::new());
    let (from, url) = (scratch.path("functions.ndjson"), format!("http://{}", control_plane.address));
    let good = "\u{feff}{\"name\":\"new-1\",\"image\":\"i\"}";
    let bad = "  {\"name\": \"picky-1\", \"image\": \"i\",   \"concurrency\": 0}";
    fs::write(&from, format!("{good}\n\n{bad}\r\n")).unwrap();
    let (code, printed, errors) = run(&["register", "--from", &from, "--control-plane", &url]);
    assert_eq!((code, printed.as_str()), (1, ""), "{errors}");
    let column = bad.find("\"concurrency\"").unwrap() + 1;
    let expected = format!(
        "error: 1 of 2 functions could not be registered at {url}, the first of them, picky-1 ({from}, line 3, column \
         {column}): concurrency: expected 1 to 10000, got 0; the rest (1) is registered"
    );
    assert_eq!(errors.lines().last(), Some(expected.as_str()), "{errors}");
    assert_eq!(control_plane.count("PUT new-1"), 1);
}

#[test]
fn a_line_that_is_wrong_costs_no_other_its_registration() {
    let (control_plane, scratch) = (Mock::control_plane(), Scratch::new());
    let (from, url) = (scratch.path("functions.ndjson"), format!("http://{}", control_plane.address));
    let function = |name: &str| format!("{{\"name\":\"{name}\",\"image\":\"i\"}}\n");
    fs::write(&from, function("new-1") + "{\"name\":\"wrong\"}\n" + &function("new-2")).unwrap();
    let register = ["register", "--from", &from, "--control-plane", &url];
    let (code, printed, errors) = run(&register);
    assert_eq!((code, printed.as_str()), (1, ""), "{errors}");
    assert!(errors.contains(&format!("{from}, line 2, field image: expected a text, found nothing\n")), "{errors}");
    let last =
        "error: 1 of 3 functions could not be registered, each for what is said above; the rest (2) is registered";
    assert_eq!(errors.lines().last(), Some(last), "{errors}");
    assert_eq!((control_plane.count("PUT new-1"), control_plane.count("PUT new-2")), (1, 1));

    fs::write(&from, function("bad-1") + "nothing\n" + &function("bad-2") + &function("new-3")).unwrap();
    let (code, _, errors) = run(&register);
    assert_eq!(code, 1, "{errors}");
    for expected in
        ["line 2, column 2: expected one JSON object", "\nbad-1 (", "\nbad-2 (", "the rest (1) is registered"]
    {
        assert!(errors.contains(expected), "expected {expected:?}: {errors}");
    }

    let before = control_plane.total();
    fs::write(&from, "nothing\n").unwrap();
    let (code, _, errors) = run(&register);
    assert!(code == 2 && errors.starts_with(&format!("error: {from}, line 1, column 2: ")), "{code}: {errors}");
    assert_eq!(control_plane.total(), before, "nothing was sent");
}

#[test]
fn functions_are_registered_from_standard_input() {
    let (control_plane, scratch) = (Mock::control_plane(), Scratch::new());
    let piped = scratch.path("piped");
    fs::write(&piped, "{\"name\":\"new-1\",\"image\":\"i\"}\n").unwrap();
    let url = format!("http://{}", control_plane.address);
    let mut command = program::loadgen(&["register", "--from", "-", "--control-plane", &url]);
    let (code, _, errors) = program::ended(command.stdin(fs::File::open(&piped).unwrap()).output().unwrap());
    assert_eq!((code, control_plane.count("PUT new-1")), (0, 1), "{errors}");
}

#[test]
fn a_control_plane_that_asks_for_a_token_is_shown_the_one_in_the_file() {
    let (control_plane, scratch) = (Mock::control_plane(), Scratch::new());
    let [from, token] = ["functions.ndjson", "token"].map(|name| scratch.path(name));
    fs::write(&from, "{\"name\":\"guarded\",\"image\":\"i\"}\n").unwrap();
    fs::write(&token, "secret\n").unwrap();
    let url = format!("http://{}", control_plane.address);
    let register = ["register", "--from", &from, "--control-plane", &url];
    let (code, _, errors) = run(&register);
    assert!(code == 1 && errors.contains("401"), "{code}: {errors}");
    let (code, printed, errors) = run(&[&register[..], &["--token-file", &token]].concat());
    assert_eq!((code, printed.as_str()), (0, "1 functions registered, 1 of them new\n"), "{errors}");
    let (code, _, errors) = run(&[&register[..], &["--token-file", "/dev/zero"]].concat());
    assert!(code == 1 && errors.contains("--token-file /dev/zero: expected a token of at most 4096 bytes"), "{errors}");
    let (code, _, errors) = run(&[&register[..], &["--token-file", &from.replace("functions", "none")]].concat());
    assert!(code == 1 && errors.contains("--token-file"), "{code}: {errors}");
}

#[test]
fn no_proxy_of_the_user_leads_to_a_control_plane() {
    let (control_plane, proxy, scratch) = (Mock::control_plane(), Mock::control_plane(), Scratch::new());
    let from = scratch.path("functions.ndjson");
    fs::write(&from, "{\"name\":\"new-1\",\"image\":\"i\"}\n").unwrap();
    let (url, proxied) = (format!("http://{}", control_plane.address), format!("http://{}", proxy.address));
    for variable in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy", "http_proxy"] {
        let mut register = loadgen(&["register", "--from", &from, "--control-plane", &url]);
        let (code, _, errors) = ended(register.env(variable, &proxied).output().unwrap());
        assert_eq!((code, proxy.total()), (0, 0), "{variable}: {errors}");
    }
}

#[test]
fn a_response_that_is_no_registration_is_no_acknowledgement() {
    let scratch = Scratch::new();
    let from = scratch.path("functions.ndjson");
    fs::write(&from, "{\"name\":\"new-1\",\"image\":\"i\"}\n").unwrap();
    for (response, why) in [
        ("HTTP/1.1 201 Created\r\ncontent-length: 40\r\n\r\n{\"known\":", "status 201"),
        ("HTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\nhello", "its body is no registration"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(response.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            drop(stream.read(&mut request));
        });
        let (code, _, errors) = run(&["register", "--from", &from, "--control-plane", &url]);
        server.join().unwrap();
        assert!(code == 1 && errors.contains(why), "{code}: {errors}");
    }
}
