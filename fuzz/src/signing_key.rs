//! Files with secret keys.

use windrow_components::signing_key::SecretKey;

use crate::shared::seeds as seeds_of;

/// What is read is written as the same key, and signs.
pub fn check(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match SecretKey::parse(text) {
        Ok(key) => {
            let again = SecretKey::parse(&key.secret_text()).expect("what was written is read");
            assert_eq!(again.public_text(), key.public_text());
            assert_eq!(again.sign("x"), key.sign("x"));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A key, and texts that are almost one.
pub fn seeds() -> Vec<Vec<u8>> {
    let key = SecretKey::from_seed("cache.example.org-1", &[7; 32]).secret_text();
    let wrapped = key.replace('/', "/\n");
    let cut = key[..key.len() - 4].to_owned();
    seeds_of([format!("{key}\n"), wrapped, cut, "x:".to_owned()])
}
