//! What `bottles serve` says, and how it lives and ends.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::harness::{Running, bare};
use crate::serve::{LARGE, chosen, large, mirror, serve};
use crate::server::{Server, wait_for};

#[test]
fn the_access_log_has_a_line_for_each_request_when_it_is_over() {
    let mirror = mirror();
    let server = serve(&mirror.dir());
    let bottle = chosen(&mirror.upstream);
    let first = server.stdout();
    assert_eq!(first, format!("Serving {} on http://{}\n", mirror.dir().display(), server.address));
    let mut connection = server.connect();
    let mut expected = Vec::new();
    let mut ask = |method: &str, path: &str, headers: &[(&str, &str)], line: String| {
        connection.ask(method, path, headers);
        expected.push(line);
        server.log(expected.len());
    };
    let key = &bottle.key;
    let secret = [("Authorization", "Bearer hidden"), ("Cookie", "hidden")];
    ask("GET", &format!("/{key}"), &secret, format!("GET /{key} HTTP/1.1\" 200 {}", bottle.size));
    ask("HEAD", &format!("/{key}?token=hidden"), &[], format!("HEAD /{key} HTTP/1.1\" 200 -"));
    ask("GET", &format!("/{key}"), &[("Range", "bytes=0-9")], format!("GET /{key} HTTP/1.1\" 206 10"));
    ask("GET", &format!("/{key}"), &[("If-None-Match", "*")], format!("GET /{key} HTTP/1.1\" 304 -"));
    ask("GET", "/a\"b\\é%0a", &[], "GET /a\\\"b\\\\\\xc3\\xa9%0a HTTP/1.1\" 404 28".to_owned());
    ask("POST", "/x", &[("Content-Length", "0")], "POST /x HTTP/1.1\" 405 36".to_owned());
    let log = server.log(expected.len());
    for (line, expected) in log.iter().zip(&expected) {
        let (time, request) = line.strip_prefix("127.0.0.1 - - [").unwrap().split_once("] \"").unwrap();
        assert!(jiff::Zoned::strptime("%d/%b/%Y:%H:%M:%S %z", time).is_ok(), "{line}");
        assert_eq!(request, expected);
    }
    assert_eq!(log.len(), expected.len());
    assert!(!log.concat().contains("hidden"), "{log:#?}");

    let mut quiet = bare(&[Path::new("serve"), &mirror.dir()]);
    quiet.arg("--quiet");
    let mut quiet = Server::start(quiet);
    quiet.get("/api/formula.jws.json").expect(200);
    quiet.terminate();
    quiet.ended();
    assert_eq!(quiet.stdout().lines().count(), 1);
}

#[test]
fn a_client_that_leaves_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    large(folder.path(), 200 << 20);
    let mut server = serve(folder.path());
    let mut stays = server.connect();
    stays.send("GET", &format!("/{LARGE}"), &[]);
    assert_eq!(stays.head().length(), 200 << 20);
    let begun = stays.read(1 << 20);
    for nth in 1..=20 {
        let mut leaves = server.connect();
        leaves.send("GET", &format!("/{LARGE}"), &[]);
        assert_eq!(leaves.head().expect(200).length(), 200 << 20);
        leaves.read(100_000);
        drop(leaves);
        let log = server.log(nth);
        let bytes: u64 = log[nth - 1].rsplit(' ').next().unwrap().parse().unwrap();
        assert!((100_000..200 << 20).contains(&bytes), "{log:#?}");
    }
    // Nor one that leaves before its answer, or sends no HTTP.
    drop(server.connect());
    let mut leaves = server.connect();
    leaves.send("GET", &format!("/{LARGE}"), &[]);
    drop(leaves);
    let left = (200 << 20) - begun.len();
    assert_eq!(stays.read(left).len(), left);
    server.ask("HEAD", &format!("/{LARGE}"), &[]).expect(200);
    server.terminate();
    assert_eq!(server.ended().code(), Some(0));
    assert_eq!(
        server.log(22).iter().filter(|line| line.ends_with(&format!(" 200 {}", 200 << 20))).count(),
        1
    );
}

#[test]
fn told_to_stop_it_lets_transfers_end() {
    let folder = tempfile::tempdir().unwrap();
    large(folder.path(), 64 << 20);
    for signal in ["-TERM", "-INT"] {
        let mut server = serve(folder.path());
        let mut idle = server.connect();
        idle.ask("HEAD", &format!("/{LARGE}"), &[]).expect(200);
        let mut busy = server.connect();
        busy.send("GET", &format!("/{LARGE}"), &[]);
        assert_eq!(busy.head().length(), 64 << 20);
        let begun = busy.read(1 << 20);
        let told = Command::new("kill").args([signal, &server.id().to_string()]).status().unwrap();
        assert!(told.success());
        wait_for("the end of listening", || TcpStream::connect(server.address).is_err().then_some(()));
        assert!(idle.read(1).is_empty(), "a connection without a request was kept");
        assert_eq!(begun.len() + busy.read(64 << 20).len(), 64 << 20);
        assert_eq!(server.ended().code(), Some(0), "{}", server.stderr());
        assert!(server.log(2)[1].ends_with(&format!(" 200 {}", 64 << 20)));
    }
}

#[test]
fn what_can_not_be_served_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str], code| {
        let mut command = bare(&[&["serve"], args].concat());
        command.current_dir(folder.path());
        let output = Running::start(command).wait().expect(code);
        assert!(output.stdout.is_empty(), "{output}");
        output.stderr
    };
    fs::create_dir(folder.path().join("empty")).unwrap();
    for place in ["empty", "absent"] {
        let said = run(&[place], 2);
        assert!(said.contains(place) && said.contains("bottles sync --to"), "{said}");
    }
    for args in
        [&[][..], &["https://mirror.example.com"], &["s3://UPPER"], &["empty", "--listen", "nonsense"]]
    {
        run(args, 2);
    }
    fs::create_dir_all(folder.path().join("mirror/_sync")).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = run(&["mirror", "--listen", &address], 1);
    assert!(said.contains(&address) && said.contains("--listen") && said.contains("in use"), "{said}");

    // A mirror without content, which is served to this machine without a word.
    let server = serve(&folder.path().join("mirror"));
    server.get("/api/formula.jws.json").expect(404);
    assert!(server.stderr().is_empty(), "{}", server.stderr());
    let mut open = bare(&["serve", "mirror", "--listen", "0.0.0.0:0"]);
    open.current_dir(folder.path());
    let open = Server::start(open);
    open.get("/api/formula.jws.json").expect(404);
    assert_eq!(open.stderr().lines().count(), 1, "{}", open.stderr());
    assert!(open.stderr().contains("can read the mirror"), "{}", open.stderr());
}

#[test]
fn one_connection_takes_one_request_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    large(folder.path(), 1 << 20);
    let server = serve(folder.path());
    let mut connection = server.connect();
    // Sent at once: the answers come in their order.
    connection.send("GET", "/nothing", &[]);
    connection.send("GET", &format!("/{LARGE}"), &[("Range", "bytes=0-4")]);
    connection.send("GET", &format!("/{LARGE}"), &[("Connection", "close")]);
    for (status, length) in [(404, 28), (206, 5), (200, 1 << 20)] {
        let head = connection.head().expect(status);
        assert_eq!(head.length(), length);
        assert_eq!(connection.read(length).len(), length);
    }
    assert!(connection.read(1).is_empty());
}
