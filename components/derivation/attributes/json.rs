//! Structured attributes as text for builders, in the very bytes that Nix writes: JSON, and
//! declarations for bash. Nix prints through nlohmann/json: keys sorted, no white space, and floats
//! in a form of its own.

use std::io;

use serde_json::ser::{CompactFormatter, Formatter};
use serde_json::{Map, Number, Serializer, Value};

/// One line of JSON without its end, as `.attrs.json` has it.
pub fn to_json_text(members: &Map<String, Value>) -> Vec<u8> {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, Floats);
    // Writing to memory can't fail, and the keys of a map are strings.
    serde::Serialize::serialize(members, &mut serializer).expect("JSON values can be written");
    text
}

struct Floats;

impl Formatter for Floats {
    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(float_text(value).as_bytes())
    }

    fn write_f32<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        CompactFormatter.write_f32(writer, value)
    }
}

/// The shortest digits that give the number again; positional from 1e-4 to below 1e15, else with an
/// exponent of two digits at least.
fn float_text(value: f64) -> String {
    let scientific = format!("{:e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = mantissa.replace('.', "");
    let sign = if value.is_sign_negative() { "-" } else { "" };
    // How many digits stand before the point.
    let before = exponent + 1;
    let text = match usize::try_from(before) {
        _ if value == 0.0 => "0.0".to_owned(),
        Ok(before @ 1..=15) if digits.len() <= before => {
            format!("{digits}{}.0", "0".repeat(before - digits.len()))
        }
        Ok(before @ 1..=15) => format!("{}.{}", &digits[..before], &digits[before..]),
        _ if (-3..=0).contains(&before) => {
            format!("0.{}{digits}", "0".repeat(before.unsigned_abs() as usize))
        }
        _ => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
        }
    };
    format!("{sign}{text}")
}

/// Declarations of what bash can hold, as `.attrs.sh` has them: texts, whole numbers, truth values,
/// and flat lists and maps of these. Everything else is left out.
pub fn to_shell_text(members: &Map<String, Value>) -> Vec<u8> {
    let mut text = String::new();
    for (name, value) in members {
        if !is_variable_name(name) {
            continue;
        }
        let declared = match value {
            Value::Array(items) => items
                .iter()
                .map(|item| Some(scalar(item)? + " "))
                .collect::<Option<String>>()
                .map(|items| format!("declare -a {name}=({items})\n")),
            Value::Object(members) => members
                .iter()
                .map(|(key, item)| Some(format!("[{}]={} ", quoted(key), scalar(item)?)))
                .collect::<Option<String>>()
                .map(|items| format!("declare -A {name}=({items})\n")),
            other => scalar(other).map(|value| format!("declare {name}={value}\n")),
        };
        text.extend(declared);
    }
    text.into_bytes()
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(quoted(text)),
        Value::Number(number) => whole(number).map(|number| number.to_string()),
        Value::Null => Some("''".to_owned()),
        Value::Bool(true) => Some("1".to_owned()),
        Value::Bool(false) => Some(String::new()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// A number that is whole when seen in single precision, cut to 32 bits, as Nix prints it.
fn whole(number: &Number) -> Option<i32> {
    if let Some(number) = number.as_i64() {
        return Some(number as i32);
    }
    if let Some(number) = number.as_u64() {
        return Some(number as i32);
    }
    let number = number.as_f64()?;
    let single = number as f32;
    let fits = number > f64::from(i32::MIN) - 1.0 && number < f64::from(i32::MAX) + 1.0;
    // Out of range, the processor that Nix leaves it to gives the least number.
    (single.ceil() == single).then_some(if fits { number as i32 } else { i32::MIN })
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
