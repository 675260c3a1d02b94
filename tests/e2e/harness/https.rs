//! A server of files by HTTPS, made of openssl, with a certificate authority of its own.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::World;

/// The server, until it is dropped.
pub(crate) struct HttpsServer {
    child: Child,
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
}

impl HttpsServer {
    /// Serves the files of the world, `hello` among them, with a certificate by an authority that
    /// only the file `ca.pem` there knows.
    pub(crate) fn start(world: &World) -> Self {
        let script = "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca
            openssl req -newkey rsa:2048 -nodes -keyout key.pem -out request -subj /CN=localhost
            echo subjectAltName=IP:127.0.0.1 > names
            openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem";
        world.program("/bin/sh").args(["-ec", script]).ok();
        world.write("hello", "hello");
        let mut child = Command::new("openssl")
            .args([
                "s_server",
                "-accept",
                "127.0.0.1:0",
                "-WWW",
                "-cert",
                "cert.pem",
            ])
            .args(["-key", "key.pem"])
            .current_dir(world.at("files"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let port = line.strip_prefix("ACCEPT ")?.rsplit(':').next()?;
            port.parse().ok()
        });
        // It goes on to write.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            port: port.expect("a port"),
        }
    }
}

impl Drop for HttpsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
