//! How long, how many at a time, and until when: timeouts, connections, and what is called off.

use std::sync::mpsc::channel;
use std::time::Duration;

use windrow_net::client::{Client, Config};
use windrow_net::error::Kind;
use windrow_net::testing::Behaviour;

use crate::common::{Served, config, open, partial};

fn impatient() -> Config {
    let mut config = config();
    config.limits.attempts = 2;
    config.limits.answer_timeout = Duration::from_millis(100);
    config.limits.connect_timeout = Duration::from_millis(100);
    config
}

#[test]
fn who_never_answers_is_given_up() {
    let served = Served::new();
    served.file("x", b"hello");
    let remote = served.remote(impatient());
    for behaviour in [
        Behaviour::Hang,
        Behaviour::Stall(2),
        Behaviour::Drip(1, Duration::from_millis(60)),
    ] {
        served.server.forget();
        served.server.behave("/x", behaviour.clone());
        let error = remote.get_now("x", 10).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{behaviour:?}: {error}");
        assert_eq!(served.server.count("/x"), 2);
    }
    served.server.behave("/x", Behaviour::Hang);
    assert_eq!(remote.exists_now("x").unwrap_err().kind(), Kind::Timeout);
    served.server.behave_well();
    assert!(remote.get_now("x", 10).unwrap().is_some());
}

#[test]
fn who_accepts_and_shakes_no_hand_is_given_up() {
    // Connections are made by the kernel; nobody takes them.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ca = Served::by(|dir| windrow_net::testing::Server::start_tls(dir, true));
    let client = Client::new(Config {
        ca_file: Some(ca.server.ca_file()),
        ..impatient()
    });
    let url = format!("https://{}", listener.local_addr().unwrap());
    let error = open(&url, &client.unwrap()).get_now("x", 10).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
}

#[test]
fn a_thousand_requests_share_a_few_connections() {
    let served = Served::new();
    for n in 0..1000 {
        served.file(&n.to_string(), n.to_string().as_bytes());
    }
    served
        .server
        .behave("*", Behaviour::Latency(Duration::from_millis(3)));
    let client = Client::new(Config {
        connections: 7,
        ..config()
    });
    let client = client.unwrap();
    let remote = open(&served.server.url(), &client);
    let (send, answers) = channel();
    let tickets: Vec<_> = (0..1000)
        .map(|n| {
            let send = send.clone();
            remote.get(&n.to_string(), 10, move |result| {
                send.send((n, result)).unwrap()
            })
        })
        .collect();
    drop(send);
    let mut seen = [false; 1000];
    for (n, result) in answers {
        assert_eq!(result.unwrap().unwrap(), n.to_string().as_bytes());
        assert!(!std::mem::replace(&mut seen[n], true));
    }
    assert!(seen.iter().all(|seen| *seen));
    drop(tickets);
    assert!(served.server.busiest() <= 7);
    // More than that may be opened, but not for each request.
    assert!(served.server.connections() < 100);
}

#[test]
fn a_server_that_hangs_holds_up_no_other() {
    let (bad, good) = (Served::new(), Served::new());
    bad.server.behave("*", Behaviour::Hang);
    good.file("x", b"hello");
    let client = Client::new(Config {
        connections: 2,
        ..config()
    });
    let client = client.unwrap();
    let remote = open(&bad.server.url(), &client);
    let waiting: Vec<_> = (0..10)
        .map(|n| remote.get(&n.to_string(), 10, drop))
        .collect();
    let got = open(&good.server.url(), &client).get_now("x", 10).unwrap();
    assert_eq!(got.as_deref(), Some(&b"hello"[..]));
    drop(waiting);
}

#[test]
fn downloads_hold_up_no_question() {
    let served = Served::new();
    served.file("x", b"hello");
    for behaviour in [Behaviour::Stall(0), Behaviour::Hang] {
        served.server.behave("/nar/*", behaviour);
        let client = Client::new(Config {
            connections: 4,
            ..config()
        });
        let client = client.unwrap();
        let remote = open(&served.server.url(), &client);
        let begin = |n: usize| {
            served.file(&format!("nar/{n}"), b"something large");
            let (dir, partial) = partial();
            let name = format!("nar/{n}");
            (dir, remote.download(&name, partial, None, drop, drop))
        };
        let downloads: Vec<_> = (0..10).map(begin).collect();
        wait_for(|| served.server.count("/nar/*") >= 3);
        let (send, answer) = channel();
        let ticket = remote.get("x", 10, move |result| send.send(result).unwrap());
        let got = answer.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(got.unwrap().as_deref(), Some(&b"hello"[..]));
        assert!(served.server.busiest() <= 4);
        drop((downloads, ticket, client));
        served.server.forget();
    }
}

/// Waits until something is the case.
fn wait_for(is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_nobody_wants_is_called_off() {
    let served = Served::new();
    served.server.behave("/x", Behaviour::Hang);
    let client = Client::new(config()).unwrap();
    let remote = open(&served.server.url(), &client);
    let (send, answers) = channel();
    let get = || {
        let send = send.clone();
        remote.get("x", 10, move |result| send.send(result.map(drop)).unwrap())
    };
    drop(get());
    assert_eq!(answers.recv().unwrap().unwrap_err().kind(), Kind::Cancelled);
    // A ticket that is given away still has an answer, if only because the client ends.
    get().detach();
    let ticket = get();
    drop((remote, client));
    for _ in 0..2 {
        assert_eq!(answers.recv().unwrap().unwrap_err().kind(), Kind::Cancelled);
    }
    drop(ticket);
}

#[test]
fn the_last_client_may_lie_in_a_callback() {
    let served = Served::new();
    served.file("x", b"hello");
    let client = Client::new(config()).unwrap();
    let remote = open(&served.server.url(), &client);
    let inner = remote.clone();
    let (send, answer) = channel();
    let ticket = remote.get("x", 10, move |result| {
        drop(inner);
        send.send(result).unwrap();
    });
    drop((remote, client));
    assert_eq!(answer.recv().unwrap().unwrap().unwrap(), b"hello");
    drop(ticket);
}
