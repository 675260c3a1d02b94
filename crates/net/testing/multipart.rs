//! Uploads in parts, as S3 takes them.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use hyper::Method;

use super::answer::write;

/// The parts that have come, by the number of the upload.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    begun: u32,
    parts: BTreeMap<String, BTreeMap<u32, Bytes>>,
}

impl Uploads {
    /// Takes one request; the text of the answer and its tag. `None` if it makes no sense.
    pub(super) fn take(
        &mut self,
        (method, query): (&Method, &str),
        file: &Path,
        bytes: Bytes,
    ) -> Option<(String, String)> {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
        };
        let Some(id) = value("uploadId") else {
            self.begun += 1;
            let id = format!("upload{}", self.begun);
            self.parts.insert(id.clone(), BTreeMap::new());
            return Some((
                result("InitiateMultipartUploadResult", "UploadId", &id),
                "\"\"".to_owned(),
            ));
        };
        match *method {
            Method::PUT => {
                let number: u32 = value("partNumber")?.parse().ok()?;
                self.parts.get_mut(&id)?.insert(number, bytes);
                Some((String::new(), format!("\"part{number}\"")))
            }
            Method::POST => {
                let parts = self.parts.remove(&id)?;
                let asked = String::from_utf8_lossy(&bytes).into_owned();
                // In order, and all of them.
                let tags: String = parts
                    .keys()
                    .map(|number| format!("part{number},"))
                    .collect();
                let named: String = asked
                    .split("&quot;part")
                    .skip(1)
                    .map(|rest| {
                        let digits: String =
                            rest.chars().take_while(char::is_ascii_digit).collect();
                        format!("part{digits},")
                    })
                    .collect();
                if tags != named {
                    return None;
                }
                let all: Vec<u8> = parts.into_values().flatten().collect();
                write(file, &all);
                Some((
                    result("CompleteMultipartUploadResult", "ETag", "\"all\""),
                    "\"all\"".to_owned(),
                ))
            }
            Method::DELETE => {
                self.parts.remove(&id)?;
                Some((String::new(), "\"\"".to_owned()))
            }
            _ => None,
        }
    }

    /// How many are neither complete nor given up.
    pub(super) fn open(&self) -> usize {
        self.parts.len()
    }
}

fn result(element: &str, name: &str, value: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><{element} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <{name}>{value}</{name}></{element}>"
    )
}
