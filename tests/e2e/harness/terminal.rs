//! A terminal of a test's own: a pseudo-terminal, and an emulator that knows what is on its screen.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::{Cmd, wait_until};

/// How many lines that have scrolled away can be looked at.
const SCROLLBACK: usize = 1000;

/// A terminal.
pub(crate) struct Terminal {
    master: File,
    emulator: Arc<Mutex<vt100::Parser>>,
    /// All bytes that were written to it.
    bytes: Arc<Mutex<Vec<u8>>>,
    user_side: String,
}

fn some(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).expect("a size")
}

impl Terminal {
    /// One of that size.
    pub(crate) fn new(rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a pseudo-terminal");
        grantpt(&master).expect("a pseudo-terminal of ours");
        unlockpt(&master).expect("a pseudo-terminal of ours");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let user_side = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let parser = vt100::Parser::new(some(rows), some(columns), SCROLLBACK);
        let terminal = Self {
            master: File::from(master),
            emulator: Arc::new(Mutex::new(parser)),
            bytes: Arc::default(),
            user_side: user_side.to_str().expect("a name in UTF-8").to_owned(),
        };
        terminal.set_size(rows, columns);
        let mut source = terminal.master.try_clone().expect("a descriptor");
        let (emulator, bytes) = (Arc::clone(&terminal.emulator), Arc::clone(&terminal.bytes));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                match source.read(&mut buffer) {
                    Ok(count) if count > 0 => {
                        bytes.lock().unwrap().extend_from_slice(&buffer[..count]);
                        emulator.lock().unwrap().process(&buffer[..count]);
                    }
                    // Nobody has the user's side open: not yet, or not any more.
                    _ => std::thread::sleep(std::time::Duration::from_millis(5)),
                }
                if Arc::strong_count(&emulator) == 1 {
                    return;
                }
            }
        });
        terminal
    }

    fn set_size(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).expect("a size");
    }

    /// Gives it another size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let mut emulator = self.emulator.lock().unwrap();
        emulator.screen_mut().set_size(some(rows), some(columns));
        drop(emulator);
        self.set_size(rows, columns);
    }

    /// The command with this as its terminal, standard input and error; standard output is a file
    /// of that name.
    pub(crate) fn run(&self, cmd: Cmd, stdout: &Path) -> Cmd {
        let shell = format!(
            "exec setsid --ctty --wait \"$@\" <{0} 2>{0} >{1}",
            self.user_side,
            stdout.display()
        );
        cmd.through("/bin/sh", &["-c", &shell, "sh"])
    }

    /// The command with this as its terminal and all three of its standard streams.
    pub(crate) fn run_whole(&self, cmd: Cmd) -> Cmd {
        let shell = format!(
            "exec setsid --ctty --wait \"$@\" <{0} 2>{0} >{0}",
            self.user_side
        );
        cmd.through("/bin/sh", &["-c", &shell, "sh"])
    }

    /// Lets every user open it.
    pub(crate) fn open_to_all(&self) {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&self.user_side, open).expect("a terminal of ours");
    }

    /// Types.
    pub(crate) fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("a terminal");
    }

    /// What is on the screen, line by line, without blanks at the ends.
    pub(crate) fn screen(&self) -> String {
        let emulator = self.emulator.lock().unwrap();
        emulator.screen().contents()
    }

    /// That with what has scrolled away.
    pub(crate) fn transcript(&self) -> String {
        let mut emulator = self.emulator.lock().unwrap();
        let screen = emulator.screen_mut();
        let mut lines = Vec::new();
        let (rows, columns) = screen.size();
        screen.set_scrollback(SCROLLBACK);
        let mut back = screen.scrollback();
        while back > 0 {
            screen.set_scrollback(back);
            lines.extend(screen.rows(0, columns.get()).next());
            back -= 1;
        }
        screen.set_scrollback(0);
        lines.extend(screen.rows(0, columns.get()).take(rows.get().into()));
        lines.join("\n").trim_end().to_owned()
    }

    /// All bytes that were written to it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    /// Waits until the screen shows all of these.
    #[track_caller]
    pub(crate) fn shows(&self, texts: &[&str]) {
        wait_until(&format!("the terminal shows {texts:?}"), || {
            let screen = self.screen();
            texts.iter().all(|text| screen.contains(text))
        });
    }

    /// Writes to it as another program would.
    pub(crate) fn others_write(&self, text: &str) {
        let terminal = OpenOptions::new().write(true).open(&self.user_side);
        let mut terminal = terminal.expect("the user's side");
        terminal.write_all(text.as_bytes()).expect("a terminal");
    }
}

/// A screen without what differs from run to run: times are `#`, and several blanks are two.
pub(crate) fn masked(screen: &str) -> String {
    let is_number = |word: &str| {
        let mut chars = word.chars();
        chars.next().is_some_and(|c| c.is_ascii_digit())
            && word
                .chars()
                .all(|c| c.is_ascii_digit() || matches!(c, '.' | '–'))
    };
    let is_unit = |word: &str| matches!(word.trim_end_matches([',', ':']), "s" | "min" | "h");
    let line = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        for at in 1..words.len() {
            if is_unit(words[at]) && is_number(words[at - 1]) {
                words[at - 1] = "#";
            }
        }
        let (mut masked, mut gap) = (String::new(), 0);
        for (nth, word) in words.into_iter().enumerate() {
            if word.is_empty() {
                gap += 1;
                continue;
            }
            masked.push_str(match (nth, gap) {
                (0, _) => "",
                (_, 0) => " ",
                _ => "  ",
            });
            masked.push_str(word);
            gap = 0;
        }
        masked.trim_end().to_owned()
    };
    screen.lines().map(line).collect::<Vec<_>>().join("\n")
}
