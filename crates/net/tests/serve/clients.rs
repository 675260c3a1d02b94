//! Many clients at once, slow ones, and such as break the protocol.

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use windrow_net::compression::{Compression, decoder};
use windrow_net::serve::{Limits, Packing};

use crate::common::{Got, LIMIT, Scene, Served};

/// Asks for something, and does not read the answer.
fn ask_only(served: &Served, path: &str) -> TcpStream {
    ask_on(served.connect(), path)
}

fn ask_on(mut stream: TcpStream, path: &str) -> TcpStream {
    let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn two_hundred_clients_at_once_all_get_what_they_asked_for() {
    const CLIENTS: usize = 200;
    let mut scene = Scene::new();
    let paths: Vec<_> = (0..20)
        .map(|n| scene.add_dir(&format!("dir-{n}"), 40 + n))
        .collect();
    let archives: Vec<_> = paths.iter().map(|path| scene.archive(path)).collect();
    let limits = Limits {
        // Fewer than there are clients: they take turns.
        streams: 50,
        ..Limits::default()
    };
    let served = scene.serve_with(Packing::Zstd, limits);
    let all_there = &std::sync::Barrier::new(CLIENTS);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (served, paths, archives) = (&served, &paths, &archives);
            scope.spawn(move || {
                let which = client % paths.len();
                all_there.wait();
                let info = served.narinfo(&paths[which]);
                let (url, compression) = match client % 3 {
                    0 => (info.url.replace(".zst", ""), Compression::None),
                    _ => (info.url, Compression::Zstd),
                };
                let got = served.get(&format!("/{url}"));
                assert!(got.is_whole, "{client}");
                let mut unpacked = decoder(compression, std::io::Cursor::new(got.body)).unwrap();
                let mut archive = Vec::new();
                unpacked.read_to_end(&mut archive).unwrap();
                assert!(archive == archives[which], "{client}");
            });
        }
    });
    assert!(served.troubles().is_empty());
}

#[test]
fn a_client_that_takes_nothing_is_cut_and_holds_up_nobody() {
    let mut scene = Scene::new();
    let (large, small) = (
        scene.add_file("large", 256 << 20),
        scene.add_dir("small", 3),
    );
    let limits = Limits {
        streams: 2,
        stalled: Duration::from_millis(300),
        ..Limits::default()
    };
    let served = scene.serve_with(Packing::None, limits);
    let large = format!("/{}", served.narinfo(&large).url);
    let idle: Vec<_> = (0..2).map(|_| ask_only(&served, &large)).collect();
    // While they are served others are asked what they like, and get archives in their turn.
    let info = served.narinfo(&small);
    let got = served.get(&format!("/{}", info.url));
    assert_eq!((got.status, got.is_whole), (200, true));
    for mut stream in idle {
        let client = stream.local_addr().unwrap();
        let cut = served.wait_for(|it| it.peer == client);
        assert!(!cut.is_whole);
        assert!(cut.sent < 256 << 20);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 256 << 20);
    }
    assert!(served.troubles().is_empty());
}

#[test]
fn a_slow_client_gets_all_as_long_as_it_takes_something() {
    let mut scene = Scene::new();
    let path = scene.add_file("x", 8 << 20);
    let limits = Limits {
        stalled: Duration::from_secs(20),
        ..Limits::default()
    };
    let served = scene.serve_with(Packing::None, limits);
    let mut stream = ask_only(&served, &format!("/{}", served.narinfo(&path).url));
    let mut taken = 0;
    let mut piece = vec![0; 256 << 10];
    while taken < 8 << 20 {
        match stream.read(&mut piece).unwrap() {
            0 => panic!("cut after {taken} bytes"),
            count => taken += count,
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn who_must_wait_too_long_is_told_to_come_again() {
    let mut scene = Scene::new();
    let path = scene.add_file("x", 256 << 20);
    let limits = Limits {
        streams: 1,
        turn: Duration::from_millis(100),
        ..Limits::default()
    };
    let served = scene.serve_with(Packing::None, limits);
    let url = format!("/{}", served.narinfo(&path).url);
    let _idle = ask_only(&served, &url);
    // Until the first has its turn the second may have it.
    let refused = || {
        let mut stream = ask_only(&served, &url);
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        &head[9..] == b"503"
    };
    let begun = std::time::Instant::now();
    while !refused() {
        assert!(begun.elapsed() < LIMIT);
    }
    assert_eq!(served.get("/nix-cache-info").status, 200);
    let got = served.get(&url);
    assert_eq!(got.header("retry-after"), Some("5"));
}

#[test]
fn one_client_leaves_archives_to_others() {
    let mut scene = Scene::new();
    let (large, small) = (
        scene.add_file("large", 256 << 20),
        scene.add_dir("small", 3),
    );
    let limits = Limits {
        streams: 8,
        turn: Duration::from_millis(100),
        ..Limits::default()
    };
    let served = scene.serve_with(Packing::None, limits);
    let large = format!("/{}", served.narinfo(&large).url);
    let small = format!("/{}", served.narinfo(&small).url);
    let mut idle: Vec<_> = (0..8).map(|_| ask_only(&served, &large)).collect();
    let heads = idle.iter_mut().map(|stream| {
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        String::from_utf8_lossy(&head[9..]).into_owned()
    });
    let mut statuses: Vec<_> = heads.collect();
    statuses.sort();
    assert_eq!(statuses.join(" "), "200 200 200 200 200 200 200 503");
    let stream = ask_on(served.connect_from("127.0.0.2"), &small);
    let got = Got::read(&mut BufReader::new(stream), false);
    assert_eq!((got.status, got.is_whole), (200, true));
    assert_eq!(served.get(&small).status, 503);
}

#[test]
fn one_client_leaves_connections_to_others() {
    let scene = Scene::new();
    let limits = Limits {
        connections: 8,
        ..Limits::default()
    };
    let served = scene.serve_with(Packing::None, limits);
    let ask = |client: &str| {
        let stream = served.connect_from(client);
        let head = b"GET /nix-cache-info HTTP/1.1\r\nHost: h\r\n\r\n";
        (&stream).write_all(head).unwrap();
        let mut answer = [0; 12];
        let answered = (&stream).read_exact(&mut answer);
        (answered.is_ok() && &answer[9..] == b"200").then_some(stream)
    };
    let open: Vec<_> = (0..7).map(|_| ask("127.0.0.1").unwrap()).collect();
    assert!(ask("127.0.0.1").is_none());
    assert!(ask("127.0.0.2").is_some());
    drop(open);
    let begun = std::time::Instant::now();
    while ask("127.0.0.1").is_none() {
        assert!(begun.elapsed() < LIMIT);
    }
}

#[test]
fn listings_are_made_in_turn() {
    const CLIENTS: usize = 40;
    let mut scene = Scene::new();
    let path = scene.add_dir("x", 1000);
    // Each is larger than all the memory for them: they are sent one after the other.
    for listing_memory in [1000, 64 << 20] {
        let limits = Limits {
            listings: 1,
            listing_memory,
            ..Limits::default()
        };
        let served = scene.serve_with(Packing::None, limits);
        let name = format!("/{}.ls", path.hash_part());
        let expected = served.get(&name).body;
        let all_there = &std::sync::Barrier::new(CLIENTS);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    all_there.wait();
                    let got = served.get(&name);
                    assert_eq!((got.status, got.is_whole), (200, true));
                    assert!(got.body == expected);
                });
            }
        });
        assert!(served.troubles().is_empty());
    }
}

#[test]
fn who_breaks_the_protocol_is_cut() {
    let scene = Scene::new();
    let limits = Limits {
        idle: Duration::from_millis(200),
        ..Limits::default()
    };
    let served = scene.serve_with(Packing::None, limits);
    let answer = |bytes: &[u8]| {
        let mut stream = served.connect();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(100));
    for (bytes, expected) in [
        // Nothing, half a head, or an idle connection: all of them end.
        (&b""[..], ""),
        (b"GET / HTTP/1.1\r\nHos", ""),
        (
            b"GET /nix-cache-info HTTP/1.1\r\nHost: h\r\n\r\n",
            "HTTP/1.1 200",
        ),
        (b"nonsense\r\n\r\n", "HTTP/1.1 400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", ""),
        (large.as_bytes(), "HTTP/1.1 431"),
        (many.as_bytes(), "HTTP/1.1 431"),
    ] {
        let answer = answer(bytes);
        let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
        assert!(answer.starts_with(expected), "{sent}: {answer}");
    }
    assert_eq!(served.get("/").status, 200);
}

#[test]
fn what_is_under_way_ends_with_the_server() {
    let mut scene = Scene::new();
    let path = scene.add_file("x", 64 << 20);
    let limits = Limits {
        grace: LIMIT,
        ..Limits::default()
    };
    let mut served = scene.serve_with(Packing::None, limits);
    let url = format!("/{}", served.narinfo(&path).url);
    let _idle = served.connect();
    let mut reader = BufReader::new(ask_only(&served, &url));
    let mut first = [0; 1];
    reader.get_mut().peek(&mut first).unwrap();
    served.tell_to_end();
    let got = Got::read(&mut reader, false);
    assert_eq!(
        (got.status, got.is_whole, got.body.len()),
        (200, true, (64 << 20) + 112)
    );
    served.end();
    assert!(TcpStream::connect(served.address).is_err());
}

#[test]
fn a_client_that_takes_nothing_does_not_keep_the_server() {
    let mut scene = Scene::new();
    let path = scene.add_file("x", 256 << 20);
    let limits = Limits {
        grace: Duration::from_millis(100),
        ..Limits::default()
    };
    let mut served = scene.serve_with(Packing::Zstd, limits);
    let url = served.narinfo(&path).url.replace(".zst", "");
    let mut stream = ask_only(&served, &format!("/{url}"));
    stream.peek(&mut [0]).unwrap();
    served.end();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 256 << 20);
}
