//! What settings say of how builtin:fetchurl uses the network: `ssl-cert-file` and `netrc-file`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use crate::builtin::{HELLO, fetch};
use crate::harness::{Cmd, HttpsServer, World, need, text};

fn build(world: &World, url: &str, options: &[&str]) -> Cmd {
    let drv = world.add_one("x", fetch(url, HELLO));
    world.windrow("build").arg(drv).args(options)
}

#[test]
fn only_authorities_of_the_file_that_is_named_are_trusted() {
    need!("openssl");
    let world = World::new();
    world.write("hello", "hello");
    {
        let server = HttpsServer::start(&world);
        let url = format!("https://127.0.0.1:{}/hello", server.port);
        let fetch = |options: &[&str]| build(&world, &url, options);
        let ran = fetch(&[]).run().exits(1).one_error();
        ran.says("certificate").says(&url);
        let out = fetch(&["--option", "ssl-cert-file", "/none"])
            .run()
            .exits(1);
        out.one_error();
        let ca = world.file("ca.pem");
        let ca = ca.to_str().unwrap();
        let out = fetch(&["--option", "ssl-cert-file", ca]).ok().line();
        assert_eq!(text(&out), "hello");
        world.ours(["--delete", &out]).ok();
        // The variable stands for the setting, as in Nix.
        let out = fetch(&[]).env("NIX_SSL_CERT_FILE", ca).ok().line();
        assert_eq!(text(&out), "hello");
    }
    world.is_clean();
    world.stays_valid();
}

/// Serves "hello" to the user "u" with the password "p" only.
fn serve_to_u() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let lines = BufReader::new(&stream).lines();
            let lines = lines.map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let knows = head.iter().any(|line| {
                let line = line.split_once(": ");
                line.is_some_and(|(name, value)| {
                    name.eq_ignore_ascii_case("authorization") && value == "Basic dTpw"
                })
            });
            let answer = match knows {
                true => "200 OK\r\nContent-Length: 5\r\n\r\nhello",
                false => "401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
            };
            let _ = write!(stream, "HTTP/1.1 {answer}");
        }
    });
    address
}

#[test]
fn who_is_named_in_the_netrc_file_is_told_to_the_server() {
    let world = World::new();
    let url = format!("{}/hello", serve_to_u());
    let netrc = |name: &str, text: &str| {
        let file = world.write(name, text);
        ["--option", "netrc-file", file.to_str().unwrap()].map(str::to_owned)
    };
    let fetch = |options: &[String]| {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        build(&world, &url, &options)
    };
    fetch(&[]).run().exits(1).one_error().says("401");
    let wrong = netrc("wrong", "machine other.example login u password p\n");
    fetch(&wrong).run().exits(1).says("401");
    let right = netrc("right", "machine 127.0.0.1 login u password p\n");
    let ran = fetch(&right).ok();
    assert_eq!(text(ran.path()), "hello");
    world.is_clean();
    world.stays_valid();
}
