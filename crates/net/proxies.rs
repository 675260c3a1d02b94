//! Which proxy leads to a host: the variables that name proxies, and the choice among them that
//! curl makes.

use std::collections::BTreeMap;

/// Variables that name proxies. `HTTP_PROXY` is none: it may be a header of a request to a server
/// that runs windrow.
pub const VARIABLES: [&str; 7] = [
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// Those of [`VARIABLES`] that are set, with their values.
pub type Proxies = BTreeMap<String, String>;

/// What the environment of this process says.
pub fn of_environment() -> Proxies {
    let variables = VARIABLES.iter();
    variables
        .filter_map(|&name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect()
}

/// The proxy that leads to a host by that scheme, as it is written in the variable; `None` where
/// the way is direct. It may have a password in it.
pub fn choose<'p>(proxies: &'p Proxies, scheme: &str, host: &str) -> Option<&'p str> {
    let of = |names: &[&str]| {
        let mut values = names.iter().filter_map(|name| proxies.get(*name));
        values.find(|value| !value.is_empty()).map(String::as_str)
    };
    let chosen = match scheme {
        "https" => of(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        _ => of(&["http_proxy", "all_proxy", "ALL_PROXY"]),
    };
    let direct = of(&["no_proxy", "NO_PROXY"]);
    chosen.filter(|_| !direct.is_some_and(|list| is_listed(list, host)))
}

/// Whether a list of hosts has that host, or a domain that it is in.
pub fn is_listed(list: &str, host: &str) -> bool {
    let mut words = list.split([',', ' ', '\t']).filter(|word| !word.is_empty());
    words.any(|word| {
        if word == "*" {
            return true;
        }
        let domain = word.trim_start_matches("*.").trim_matches(['.', '[', ']']);
        let Some(start) = host.len().checked_sub(domain.len()) else {
            return false;
        };
        host.get(start..)
            .is_some_and(|end| end.eq_ignore_ascii_case(domain))
            && (start == 0 || host[..start].ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_chosen_as_by_curl() {
        let variables = [
            ("http_proxy", "http://h:1"),
            ("HTTP_PROXY", "http://evil:1"),
            ("HTTPS_PROXY", "http://u:p@s:2"),
            ("all_proxy", "socks5h://a:3"),
            ("no_proxy", "x.org, .y.org,127.0.0.1"),
        ];
        let of = |leave_out: &str, scheme: &str, host: &str| {
            let given = variables.iter().filter(|(name, _)| *name != leave_out);
            let given = given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            choose(&given.collect(), scheme, host).map(str::to_owned)
        };
        assert_eq!(of("", "http", "z.org").as_deref(), Some("http://h:1"));
        assert_eq!(of("", "https", "z.org").as_deref(), Some("http://u:p@s:2"));
        assert_eq!(
            of("http_proxy", "http", "z.org").as_deref(),
            Some("socks5h://a:3")
        );
        for host in ["x.org", "X.org", "a.x.org", "y.org", "a.y.org", "127.0.0.1"] {
            assert_eq!(of("", "http", host), None, "{host}");
        }
        for host in ["ax.org", "org", "x.org.com", "::1"] {
            assert!(of("", "http", host).is_some(), "{host}");
        }
        assert!(is_listed("*", "anything"));
    }
}
