//! The program of a policy: it is asked by lines of JSON on its standard input, and answers each
//! question by one on its standard output. Whatever it does, who asks gets an answer or an error in
//! time.

use std::io::{ErrorKind, Read as _};
use std::process::Command;
use std::time::{Duration, Instant};

use windrow_sys::interrupt::is_cause_of;
use windrow_sys::program::{Group, Program};
use windrow_sys::stream::Stream;

/// The longest answer, in bytes.
const ANSWER_MAX: usize = 64 << 20;

/// How long a program that does not answer is given to end by itself, for the end of what it says.
const PATIENCE: Duration = Duration::from_millis(200);

/// How much of an answer that is none is shown, in characters.
const SHOWN: usize = 80;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Silence {
    /// Work is to end.
    Interrupted,
    /// The program failed, in that way.
    Failed(String),
}

/// A program that is asked. Dropped, it is killed with all that it has started.
#[derive(Debug)]
pub(super) struct Talk {
    program: Option<Program>,
    stream: Stream,
    timeout: Duration,
    /// What it has said behind its last answer.
    rest: Vec<u8>,
}

impl Talk {
    /// Starts a program with its arguments, which is given so long for each answer.
    pub(super) fn start(command: &[String], timeout: Duration) -> Result<Self, String> {
        let (name, args) = command.split_first().ok_or("it has no name")?;
        let mut command = Command::new(name);
        command.args(args);
        let started = Program::start(&mut command, Group::Own);
        let (program, mut stream) =
            started.map_err(|error| format!("it can't be started: {error}"))?;
        stream.set_limit(timeout);
        Ok(Self {
            program: Some(program),
            stream,
            timeout,
            rest: Vec::new(),
        })
    }

    /// Says something that wants no answer: lines that end with a newline.
    pub(super) fn say(&mut self, lines: &[u8]) -> Result<(), Silence> {
        let written = self.stream.write_all(lines);
        written.map_err(|error| self.silence(&error))
    }

    /// The next line that it says, without its end.
    pub(super) fn hear(&mut self) -> Result<Vec<u8>, Silence> {
        let begun = Instant::now();
        let mut seen = 0;
        loop {
            let end = self.rest[seen..].iter().position(|&byte| byte == b'\n');
            if let Some(end) = end {
                let mut line: Vec<u8> = self.rest.drain(..=seen + end).collect();
                line.pop();
                return Ok(line);
            }
            seen = self.rest.len();
            if seen > ANSWER_MAX {
                return Err(self.fail(format!("its answer is longer than {ANSWER_MAX} bytes")));
            }
            // Who says a little every now and then says nothing either.
            if begun.elapsed() >= self.timeout {
                return Err(self.silence(&ErrorKind::TimedOut.into()));
            }
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(self.silence(&ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.rest.extend_from_slice(&chunk[..count]),
                Err(error) => return Err(self.silence(&error)),
            }
        }
    }

    /// What it said is no answer.
    pub(super) fn not_an_answer(&mut self, line: &[u8], reason: &str) -> Silence {
        let text = String::from_utf8_lossy(line);
        let mut shown: String = text.chars().take(SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        self.fail(format!("it has answered `{shown}`: {reason}"))
    }

    fn silence(&mut self, error: &std::io::Error) -> Silence {
        if is_cause_of(error) {
            return Silence::Interrupted;
        }
        let reason = match error.kind() {
            ErrorKind::TimedOut => {
                let seconds = self.timeout.as_secs_f64();
                format!("it has not answered within {seconds} s")
            }
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => {
                "it has ended before it was told to".to_owned()
            }
            _ => format!("it can't be talked to: {error}"),
        };
        self.fail(reason)
    }

    /// Ends the program, and adds how it ended and what it said last.
    fn fail(&mut self, mut reason: String) -> Silence {
        if let Some(program) = self.program.take() {
            let (said, status) = program.last_words(PATIENCE);
            if let Some(status) = status {
                reason += &format!(" ({status})");
            }
            if !said.is_empty() {
                reason += &format!("; the last it said:\n{said}");
            }
        }
        Silence::Failed(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(script: &str, timeout: u64) -> Talk {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        Talk::start(&command, Duration::from_millis(timeout)).unwrap()
    }

    fn reason(silence: Silence) -> String {
        match silence {
            Silence::Failed(reason) => reason,
            Silence::Interrupted => panic!("nobody has interrupted anything"),
        }
    }

    #[test]
    fn lines_come_one_by_one_however_they_are_written() {
        let mut talk = talk(
            "read a; printf '%s\\nx' $a; read b; printf '%s\\n' $b; read c",
            60_000,
        );
        talk.say(b"1\n").unwrap();
        assert_eq!(talk.hear().unwrap(), b"1");
        talk.say(b"2\n").unwrap();
        assert_eq!(talk.hear().unwrap(), b"x2");
    }

    #[test]
    fn who_dies_is_late_or_says_too_little_is_told_of() {
        let died = talk("echo oops >&2; exit 3", 60_000).hear().unwrap_err();
        let died = reason(died);
        assert!(
            died.contains("it has ended before it was told to (exit status: 3)")
                && died.ends_with("said:\noops"),
            "{died}"
        );
        let late = talk("read forever", 1).hear().unwrap_err();
        assert_eq!(reason(late), "it has not answered within 0.001 s");
        let mut dribbling = talk("while :; do printf x; done", 50);
        let dribbling = reason(dribbling.hear().unwrap_err());
        assert!(
            dribbling.contains("not answered within") || dribbling.contains("is longer than"),
            "{dribbling}"
        );
        let missing = ["/no/such/program".to_owned()];
        let missing = Talk::start(&missing, PATIENCE).unwrap_err();
        assert!(missing.contains("can't be started"), "{missing}");
        let mut garbage = talk("cat", 60_000);
        let garbage = garbage.not_an_answer(&[b'y'; 100], "no JSON");
        let garbage = reason(garbage);
        assert!(garbage.contains("yy…`: no JSON"), "{garbage}");
    }
}
