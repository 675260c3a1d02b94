//! What a daemon says while it does what it was asked: messages for people, activities, and how it
//! ends.

use super::wire::{Wire, protocol};
use crate::error::{Fault, Kind};

const NEXT: u64 = 0x6f6c_6d67;
const READ: u64 = 0x6461_7461;
const LAST: u64 = 0x616c_7473;
const ERROR: u64 = 0x6378_7470;
const START_ACTIVITY: u64 = 0x5354_5254;
const STOP_ACTIVITY: u64 = 0x5354_4f50;
const RESULT: u64 = 0x5253_4c54;

/// Since when errors have parts.
const WITH_ERROR_PARTS: u64 = 26;

/// How many fields something may have.
const FIELDS_MAX: u64 = 1000;

/// What counts of what it says.
#[derive(Debug)]
pub(super) enum Message {
    /// It has done what it was asked, and the answer follows.
    Last,
    /// It can't do what it was asked.
    Error(Fault),
    /// It waits for that number of bytes.
    Wants(u64),
    /// Something else.
    Other,
}

/// The next message.
///
/// # Errors
/// When there is none, or none that is known.
pub(super) fn next(wire: &mut Wire, minor: u64) -> Result<Message, Fault> {
    match wire.number()? {
        LAST => return Ok(Message::Last),
        ERROR => return error(wire, minor).map(Message::Error),
        READ => return wire.number().map(Message::Wants),
        NEXT => {
            wire.message()?;
        }
        START_ACTIVITY => {
            let _ = (wire.number()?, wire.number()?, wire.number()?);
            wire.message()?;
            fields(wire)?;
            wire.number()?;
        }
        STOP_ACTIVITY => {
            wire.number()?;
        }
        RESULT => {
            let _ = (wire.number()?, wire.number()?);
            fields(wire)?;
        }
        other => return Err(protocol(format!("{other:#x} is no message"))),
    }
    Ok(Message::Other)
}

/// Reads messages until what was asked is done.
///
/// # Errors
/// [`Kind::Refused`] when it can't be done; the connection can be used on.
pub(super) fn until_done(wire: &mut Wire, minor: u64) -> Result<(), Fault> {
    loop {
        match next(wire, minor)? {
            Message::Last => return Ok(()),
            Message::Error(fault) => return Err(fault),
            Message::Wants(_) => return Err(protocol("it wants something that it has")),
            Message::Other => {}
        }
    }
}

/// What a daemon says that fails in the middle of an answer, where it may not speak: it ends the
/// connection afterwards. None if it is something else that begins with that number.
pub(super) fn instead(wire: &mut Wire, minor: u64, number: u64) -> Option<Fault> {
    let fault = (number == ERROR).then(|| error(wire, minor))?.ok()?;
    Some(Fault::new(Kind::Protocol, fault.reason))
}

fn error(wire: &mut Wire, minor: u64) -> Result<Fault, Fault> {
    if minor < WITH_ERROR_PARTS {
        let text = wire.message()?;
        let _status = wire.number()?;
        return Ok(refused(&text));
    }
    let _ = (wire.text()?, wire.number()?, wire.text()?);
    let text = wire.message()?;
    no_position(wire)?;
    let count = wire.count(FIELDS_MAX, "traces")?;
    for _ in 0..count {
        no_position(wire)?;
        wire.message()?;
    }
    Ok(refused(&text))
}

fn no_position(wire: &mut Wire) -> Result<(), Fault> {
    match wire.number()? {
        0 => Ok(()),
        _ => Err(protocol("an error has a position")),
    }
}

fn fields(wire: &mut Wire) -> Result<(), Fault> {
    for _ in 0..wire.count(FIELDS_MAX, "fields")? {
        match wire.number()? {
            0 => drop(wire.number()?),
            1 => drop(wire.message()?),
            other => return Err(protocol(format!("a field is of the unknown kind {other}"))),
        }
    }
    Ok(())
}

fn refused(text: &str) -> Fault {
    let text = super::plain(text);
    let text = text.trim().trim_start_matches("error:").trim_start();
    Fault::new(Kind::Refused, format_args!("it says: {text}"))
}
