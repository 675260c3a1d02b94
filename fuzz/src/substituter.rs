//! What substituters answer.

use std::sync::Arc;

use windrow_systems::helpers::query::{Around, QueryProcess, RawInfo};
use windrow_systems::process::helper::HelperEnv;

use crate::shared::{path, seeds as seeds_of};

/// Answers read without any bound or pipe; `None` if they are malformed or end too early.
struct Naive<'a>(std::str::Lines<'a>);

impl Naive<'_> {
    fn number(&mut self) -> Option<u64> {
        self.0.next()?.trim().parse().ok()
    }

    fn text(&mut self) -> Option<String> {
        self.0.next().map(str::to_owned)
    }

    fn infos(&mut self) -> Option<Vec<RawInfo>> {
        let mut infos = Vec::new();
        loop {
            let path = self.text()?;
            if path.is_empty() {
                return Some(infos);
            }
            let deriver = self.text()?;
            let mut references = Vec::new();
            for _ in 0..self.number()? {
                references.push(self.text()?);
            }
            infos.push(RawInfo {
                path,
                deriver,
                references,
                download_size: self.number()?,
                nar_size: self.number()?,
            });
        }
    }

    fn have(&mut self) -> Option<Vec<String>> {
        let mut have = Vec::new();
        loop {
            let path = self.text()?;
            if path.is_empty() {
                return Some(have);
            }
            have.push(path);
        }
    }
}

/// What is understood is what a naive reading understands.
pub fn check(bytes: &[u8]) {
    let env: HelperEnv = Arc::new([]);
    let mut around = Around {
        env: &env,
        patience_s: 0,
        stop: None,
        say: &mut |_| {},
    };
    let asked = [path("a"), path("b")];
    let recorded = || QueryProcess::recorded(bytes).expect("there is memory");
    let infos = recorded().infos(&asked, &mut around).ok();
    let have = recorded().have(&asked, &mut around).ok();
    // Only lines that end count; a carriage return is part of one.
    let text = String::from_utf8_lossy(bytes).replace('\r', "\u{fffd}");
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    if !bytes.contains(&b'\r') && bytes.len() <= 64 * 1024 {
        assert_eq!(infos, Naive(whole.lines()).infos());
        assert_eq!(have, Naive(whole.lines()).have());
    }
}

/// Answers to both questions, whole and broken.
pub fn seeds() -> Vec<Vec<u8>> {
    let (a, b) = (path("a"), path("b"));
    seeds_of([
        format!("{a}\n{b}.drv\n2\n{a}\n{b}\n120\n 34 \n{b}\n\n0\n0\n0\n\n"),
        format!("{a}\n{b}\n\n"),
        "\n".to_owned(),
        format!("{a}\n\n99999999\n"),
        format!("{a}\n\n1\n{b}\n-1\n"),
    ])
}
