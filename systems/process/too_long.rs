//! What makes the arguments and variables of a program too long for the kernel (E2BIG): the largest
//! of them, by name.

use std::ffi::CString;
use std::fmt;
use std::io;

/// How many bytes one string may have, its NUL included (Linux: `MAX_ARG_STRLEN`, 32 pages).
const STRING_MAX: usize = 32 * 4096;

/// The largest of a program's arguments and variables.
#[derive(Debug, PartialEq, Eq)]
pub struct Largest {
    what: What,
    bytes: usize,
    all: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Argument(usize),
    Variable(String),
}

/// The largest of the arguments and variables of a program, if that they are too long is why it was
/// not executed.
pub fn largest(error: &io::Error, args: &[CString], env: &[CString]) -> Option<Largest> {
    if error.raw_os_error() != Some(libc::E2BIG) {
        return None;
    }
    let length = |string: &CString| string.as_bytes_with_nul().len();
    let all = args.iter().chain(env).map(length).sum();
    let argument = args.iter().map(length).zip(0..).max();
    let variable = env.iter().max_by_key(|variable| length(variable));
    let (bytes, what) = match (argument, variable) {
        (Some((bytes, index)), None) => (bytes, What::Argument(index)),
        (Some((bytes, index)), Some(other)) if bytes >= length(other) => {
            (bytes, What::Argument(index))
        }
        (_, Some(variable)) => {
            let name = variable.as_bytes().split(|&byte| byte == b'=').next();
            let name = String::from_utf8_lossy(name.unwrap_or_default());
            (length(variable), What::Variable(name.into_owned()))
        }
        (None, None) => return None,
    };
    Some(Largest { what, bytes, all })
}

impl Largest {
    /// What a derivation can do about it.
    pub fn remedy(&self) -> String {
        match &self.what {
            What::Variable(name) => {
                format!("name '{name}' in the attribute 'passAsFile', or set '__structuredAttrs'")
            }
            What::Argument(_) => "put it into a variable that 'passAsFile' names, or set \
                 '__structuredAttrs' and read it from '.attrs.json'"
                .to_owned(),
        }
    }
}

impl fmt::Display for Largest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Argument(index) => write!(f, "argument {index}")?,
            What::Variable(name) => write!(f, "the variable '{name}'")?,
        }
        let (bytes, all) = (self.bytes, self.all);
        if bytes > STRING_MAX {
            write!(f, " has {bytes} bytes, and one may have {STRING_MAX}")
        } else {
            write!(f, " is the largest with {bytes} bytes of {all} in all")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<CString> {
        let texts = texts.iter().map(|text| CString::new(*text).unwrap());
        texts.collect()
    }

    #[test]
    fn the_largest_is_named() {
        let error = io::Error::from_raw_os_error(libc::E2BIG);
        let args = strings(&["sh", "-c", "echo 12345"]);
        let of = |env: &[&str]| largest(&error, &args, &strings(env)).unwrap();
        assert_eq!(
            of(&["A=1"]).to_string(),
            "argument 2 is the largest with 11 bytes of 21 in all"
        );
        let long = format!("longOne={}", "x".repeat(STRING_MAX));
        let long = of(&["A=1", &long]);
        assert_eq!(
            long.to_string(),
            "the variable 'longOne' has 131081 bytes, and one may have 131072"
        );
        assert!(long.remedy().contains("'passAsFile'"));
        let other = io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(largest(&other, &args, &[]), None);
    }
}
