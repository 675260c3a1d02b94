//! The ATerm text of a derivation, read and written (Nix's `parseDerivation` and
//! `Derivation::unparse`).
//!
//! Reading borrows every string that has no escape, so a file is parsed with one allocation for
//! each list.

use std::borrow::Cow;

use memchr::{memchr2, memchr3_iter};

use super::{Bytes, Derivation, DerivationError, InputDrv, Output, Text};

type Result<T> = std::result::Result<T, DerivationError>;

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, expected: &'static str) -> Result<T> {
        let found = self.text.get(self.at).copied();
        Err(DerivationError::Syntax {
            offset: self.at,
            expected,
            found,
        })
    }

    fn expect(&mut self, token: &'static str) -> Result<()> {
        if self.text[self.at..].starts_with(token.as_bytes()) {
            self.at += token.len();
            Ok(())
        } else {
            self.fail(token)
        }
    }

    fn bytes(&mut self) -> Result<Bytes<'a>> {
        self.expect("\"")?;
        let start = self.at;
        let mut owned: Option<Vec<u8>> = None;
        let mut copied = start;
        loop {
            let Some(step) = memchr2(b'"', b'\\', &self.text[self.at..]) else {
                self.at = self.text.len();
                return self.fail("the closing quote of a string");
            };
            self.at += step;
            if self.text[self.at] == b'"' {
                let rest = &self.text[copied..self.at];
                self.at += 1;
                return Ok(match owned {
                    None => Cow::Borrowed(rest),
                    Some(mut bytes) => {
                        bytes.extend_from_slice(rest);
                        Cow::Owned(bytes)
                    }
                });
            }
            let bytes = owned.get_or_insert_default();
            bytes.extend_from_slice(&self.text[copied..self.at]);
            self.at += 1;
            let Some(&escaped) = self.text.get(self.at) else {
                return self.fail("the character after a backslash");
            };
            bytes.push(match escaped {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other => other,
            });
            self.at += 1;
            copied = self.at;
        }
    }

    fn text(&mut self) -> Result<Text<'a>> {
        let start = self.at;
        let valid = match self.bytes()? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).ok(),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).ok(),
        };
        valid.map_or_else(
            || {
                self.at = start;
                self.fail("a name or path in UTF-8")
            },
            Ok,
        )
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect("[")?;
        let mut items = Vec::new();
        if self.text.get(self.at) == Some(&b']') {
            self.at += 1;
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            match self.text.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(items);
                }
                _ => return self.fail("',' or ']'"),
            }
        }
    }

    /// What `read` reads, and the comma behind it.
    fn field<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let value = read(self)?;
        self.expect(",")?;
        Ok(value)
    }

    /// A whole derivation; what it lists is as it stands there, in any order.
    fn derivation(&mut self) -> Result<Derivation<'a>> {
        self.expect("Derive(")?;
        let drv = Derivation {
            outputs: self.field(|p| p.list(Self::output))?,
            input_drvs: self.field(|p| p.list(Self::input))?,
            input_srcs: self.field(|p| p.list(Self::text))?,
            system: self.field(Self::text)?,
            builder: self.field(Self::bytes)?,
            args: self.field(|p| p.list(Self::bytes))?,
            env: self.list(Self::variable)?,
        };
        self.expect(")")?;
        Ok(drv)
    }

    fn output(&mut self) -> Result<Output<'a>> {
        self.expect("(")?;
        let output = Output {
            name: self.field(Self::text)?,
            path: self.field(Self::text)?,
            hash_algo: self.field(Self::text)?,
            hash: self.text()?,
        };
        self.expect(")")?;
        Ok(output)
    }

    fn input(&mut self) -> Result<InputDrv<'a>> {
        self.expect("(")?;
        let path = self.field(Self::text)?;
        let mut outputs = self.list(Self::text)?;
        self.expect(")")?;
        outputs.sort_unstable();
        outputs.dedup();
        Ok(InputDrv { path, outputs })
    }

    fn variable(&mut self) -> Result<(Bytes<'a>, Bytes<'a>)> {
        self.expect("(")?;
        let key = self.field(Self::bytes)?;
        let value = self.bytes()?;
        self.expect(")")?;
        Ok((key, value))
    }
}

/// Whether two neighbours are in the wrong order or the same.
fn out_of_order<T, K: Ord + ?Sized>(items: &[T], key: impl Fn(&T) -> &K) -> bool {
    items.windows(2).any(|pair| key(&pair[0]) >= key(&pair[1]))
}

impl<'a> Derivation<'a> {
    /// Reads the contents of a `.drv` file.
    ///
    /// Lists that should be sorted are sorted; of two outputs with one name the first counts, of
    /// two variables the last, as Nix has it.
    ///
    /// # Errors
    /// [`DerivationError::Syntax`] with the place; [`DerivationError::Unsupported`] for
    /// `DrvWithVersion` and for outputs without a path; [`DerivationError::NoOutputs`].
    pub fn parse(text: &'a [u8]) -> Result<Self> {
        if text.starts_with(b"DrvWithVersion(") {
            return Err(DerivationError::Unsupported {
                feature: "dynamic derivations",
            });
        }
        let mut parser = Parser { text, at: 0 };
        let mut drv = parser.derivation()?;
        if parser.at != text.len() {
            return parser.fail("the end of the text");
        }
        drv.sort_lists();
        if drv.outputs.is_empty() {
            return Err(DerivationError::NoOutputs);
        }
        if drv.outputs.iter().any(|output| output.path.is_empty()) {
            let feature = if drv.outputs.iter().any(|output| output.hash == "impure") {
                "impure derivations"
            } else {
                "content-addressed derivations"
            };
            return Err(DerivationError::Unsupported { feature });
        }
        Ok(drv)
    }

    /// Puts lists in order that are not, and makes names unique in them.
    fn sort_lists(&mut self) {
        if out_of_order(&self.outputs, |output| &*output.name) {
            self.outputs.sort_by(|a, b| a.name.cmp(&b.name));
            self.outputs
                .dedup_by(|later, first| later.name == first.name);
        }
        if out_of_order(&self.input_drvs, |input| &*input.path) {
            self.input_drvs.sort();
            self.input_drvs.dedup_by(|later, first| {
                let same = later.path == first.path;
                if same {
                    first.outputs.append(&mut later.outputs);
                    first.outputs.sort_unstable();
                    first.outputs.dedup();
                }
                same
            });
        }
        if out_of_order(&self.input_srcs, |path| &**path) {
            self.input_srcs.sort_unstable();
            self.input_srcs.dedup();
        }
        if out_of_order(&self.env, |(key, _)| &**key) {
            self.env.reverse();
            self.env.sort_by(|a, b| a.0.cmp(&b.0));
            self.env.dedup_by(|later, first| later.0 == first.0);
        }
    }

    /// The contents of the `.drv` file.
    pub fn print(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        self.print_with(&mut out, &Inputs::AsTheyAre, false);
        out
    }

    /// Writes the ATerm text, for hashing possibly with other inputs and without the outputs' own
    /// paths.
    pub fn print_with(&self, out: &mut Vec<u8>, inputs: &Inputs<'_>, masked: bool) {
        out.extend_from_slice(b"Derive([");
        separated(out, &self.outputs, |out, output| {
            out.push(b'(');
            string(out, output.name.as_bytes());
            out.push(b',');
            string(out, if masked { b"" } else { output.path.as_bytes() });
            out.push(b',');
            string(out, output.hash_algo.as_bytes());
            out.push(b',');
            string(out, output.hash.as_bytes());
            out.push(b')');
        });
        out.extend_from_slice(b"],[");
        match inputs {
            Inputs::AsTheyAre => separated(out, &self.input_drvs, |out, input| {
                input_drv(out, &input.path, &input.outputs);
            }),
            Inputs::Hashed(hashed) => separated(out, hashed, |out, (hash, names)| {
                input_drv(out, hash, names);
            }),
        }
        out.extend_from_slice(b"],[");
        separated(out, &self.input_srcs, |out, path| {
            string(out, path.as_bytes())
        });
        out.extend_from_slice(b"],");
        string(out, self.system.as_bytes());
        out.push(b',');
        string(out, &self.builder);
        out.extend_from_slice(b",[");
        separated(out, &self.args, |out, arg| string(out, arg));
        out.extend_from_slice(b"],[");
        separated(out, &self.env, |out, (key, value)| {
            out.push(b'(');
            string(out, key);
            out.push(b',');
            let hidden = masked && self.outputs.iter().any(|o| o.name.as_bytes() == &**key);
            string(out, if hidden { b"" } else { value });
            out.push(b')');
        });
        out.extend_from_slice(b"])");
    }
}

/// What stands for the input derivations in the text.
#[derive(Debug)]
pub enum Inputs<'a> {
    /// Their paths.
    AsTheyAre,
    /// Their own hashes in base 16 with the wanted outputs, sorted.
    Hashed(Vec<(String, Vec<&'a str>)>),
}

fn input_drv(out: &mut Vec<u8>, path: &str, outputs: &[impl AsRef<str>]) {
    out.push(b'(');
    string(out, path.as_bytes());
    out.extend_from_slice(b",[");
    separated(out, outputs, |out, name| {
        string(out, name.as_ref().as_bytes())
    });
    out.extend_from_slice(b"])");
}

fn separated<T>(out: &mut Vec<u8>, items: &[T], mut item: impl FnMut(&mut Vec<u8>, &T)) {
    for (index, value) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item(out, value);
    }
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let mut copied = 0;
    // Tabs and carriage returns are rare, so the common pass looks for the other three only.
    if memchr2(b'\r', b'\t', bytes).is_none() {
        for at in memchr3_iter(b'"', b'\\', b'\n', bytes) {
            out.extend_from_slice(&bytes[copied..at]);
            out.push(b'\\');
            out.push(if bytes[at] == b'\n' { b'n' } else { bytes[at] });
            copied = at + 1;
        }
        out.extend_from_slice(&bytes[copied..]);
    } else {
        for &byte in bytes {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                other => out.push(other),
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: &[u8] = br#"Derive([("out","/nix/store/a","","")],[("/nix/store/d.drv",["dev","out"])],["/nix/store/s"],"x86_64-linux","/bin/sh",["-c","echo \"hi\\\"\n\t"],[("builder","/bin/sh"),("out","/nix/store/a")])"#;

    #[test]
    fn every_part_is_read() {
        let drv = Derivation::parse(SMALL).unwrap();
        assert_eq!(drv.outputs[0].path, "/nix/store/a");
        assert_eq!(drv.input_drvs[0].outputs, ["dev", "out"]);
        assert_eq!(drv.input_srcs, ["/nix/store/s"]);
        assert_eq!(&*drv.args[1], b"echo \"hi\\\"\n\t");
        assert_eq!(drv.env_value("out"), Some(&b"/nix/store/a"[..]));
        assert_eq!(drv.env_value("absent"), None);
        assert_eq!(drv.print(), SMALL);
    }

    #[test]
    fn every_cut_is_an_error_with_its_place() {
        for end in 0..SMALL.len() {
            assert!(Derivation::parse(&SMALL[..end]).is_err(), "cut at {end}");
        }
        let mut longer = SMALL.to_vec();
        longer.push(b'\n');
        let error = Derivation::parse(&longer).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "it is not a derivation: expected the end of the text at byte {}, found '\\n'",
                SMALL.len()
            )
        );
    }

    #[test]
    fn doubles_are_settled_as_nix_does() {
        let text = br#"Derive([("out","/first","",""),("out","/second","","")],[],[],"s","b",[],[("k","1"),("a","x"),("k","2")])"#;
        let drv = Derivation::parse(text).unwrap();
        assert_eq!(drv.outputs.len(), 1);
        assert_eq!(drv.outputs[0].path, "/first");
        assert_eq!(drv.env_value("k"), Some(&b"2"[..]));
        assert_eq!(drv.env.len(), 2);
    }

    #[test]
    fn experimental_forms_are_named() {
        let dynamic = Derivation::parse(br#"DrvWithVersion("xp-dyn-drv","#).unwrap_err();
        assert!(
            dynamic.to_string().contains("dynamic derivations"),
            "{dynamic}"
        );
        let floating = br#"Derive([("out","","r:sha256","")],[],[],"s","b",[],[])"#;
        let error = Derivation::parse(floating).unwrap_err();
        assert!(error.to_string().contains("content-addressed"), "{error}");
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), Just(b'\n')],
            0..12,
        )
    }

    proptest! {
        #[test]
        fn parsing_undoes_printing(
            args in proptest::collection::vec(bytes(), 0..4),
            env in proptest::collection::btree_map(bytes(), bytes(), 0..4),
            names in proptest::collection::btree_set("[a-z]{1,4}", 1..4),
        ) {
            let drv = Derivation {
                outputs: names.iter().map(|name| Output {
                    name: name.clone().into(),
                    path: format!("/nix/store/{name}").into(),
                    hash_algo: "".into(),
                    hash: "".into(),
                }).collect(),
                input_drvs: vec![],
                input_srcs: names.iter().map(|name| name.clone().into()).collect(),
                system: "x".into(),
                builder: Cow::Owned(b"/b".to_vec()),
                args: args.into_iter().map(Cow::Owned).collect(),
                env: env.into_iter().map(|(k, v)| (Cow::Owned(k), Cow::Owned(v))).collect(),
            };
            let text = drv.print();
            prop_assert_eq!(&Derivation::parse(&text).unwrap(), &drv);
        }

        #[test]
        fn mutations_never_panic(at in 0..SMALL.len(), byte in any::<u8>(), cut in 0..SMALL.len()) {
            let mut text = SMALL.to_vec();
            text[at] = byte;
            let _ = Derivation::parse(&text);
            text.remove(cut);
            let _ = Derivation::parse(&text);
        }
    }
}
