//! A proxy that lets connections through, wherever they want to go, to one address.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// How it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the method CONNECT of HTTP.
    Connect,
    /// By SOCKS 5.
    Socks,
    /// By CONNECT, and it refuses.
    Refuse,
}

/// The proxy. Its thread ends with the process.
pub(crate) struct Tunnel {
    address: SocketAddr,
    asked: Receiver<String>,
}

impl Tunnel {
    pub(crate) fn start(way: Way, to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (send, asked) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let wanted = match way {
                    Way::Socks => by_socks(&mut stream),
                    Way::Connect | Way::Refuse => by_connect(&mut stream),
                };
                if send.send(wanted.unwrap()).is_err() {
                    return;
                }
                let answer: &[u8] = match way {
                    Way::Connect => b"HTTP/1.1 200 OK\r\n\r\n",
                    Way::Refuse => b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
                    Way::Socks => &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
                };
                stream.write_all(answer).unwrap();
                if way != Way::Refuse {
                    join(stream, TcpStream::connect(to).unwrap());
                }
            }
        });
        Self { address, asked }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the next connection wanted to go.
    pub(crate) fn asked(&self) -> String {
        self.asked.recv().unwrap()
    }
}

/// The host and port of a request that ends in an empty line.
fn by_connect(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let wanted = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next());
    Ok(wanted.unwrap_or_default().to_owned())
}

/// The host and port of a request by name.
fn by_socks(stream: &mut TcpStream) -> io::Result<String> {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting)?;
    let mut methods = vec![0; usize::from(greeting[1])];
    stream.read_exact(&mut methods)?;
    stream.write_all(&[5, 0])?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    assert_eq!(head[3], 3, "a name");
    let mut name = vec![0; usize::from(head[4])];
    stream.read_exact(&mut name)?;
    let mut port = [0; 2];
    stream.read_exact(&mut port)?;
    Ok(format!(
        "{}:{}",
        String::from_utf8_lossy(&name),
        u16::from_be_bytes(port)
    ))
}

fn join(one: TcpStream, two: TcpStream) {
    let carry = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    };
    carry(one.try_clone().unwrap(), two.try_clone().unwrap());
    carry(two, one);
}
