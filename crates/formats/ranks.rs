//! Reads which tasks come first, from a file of comma-separated values: a task, its priority, and
//! perhaps a machine.

use hashbrown::HashMap;

/// What is wrong with a file of priorities.
#[derive(Debug, thiserror::Error)]
#[error("{file}{}: {reason}", if *line > 0 { format!(":{line}") } else { String::new() })]
pub struct RanksError {
    /// The file, as it was named.
    file: String,
    /// The line, from 1, or 0 if it is not about one.
    line: usize,
    /// What is wrong.
    reason: String,
}

/// What a file says of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// The largest comes first.
    pub priority: f64,
    /// The name of the machine that it goes to, if that is said.
    pub machine: Option<String>,
}

/// Reads priorities by the names of tasks. A line is `TASK,PRIORITY` or `TASK,PRIORITY,MACHINE`; a
/// first line whose priority is no number is a heading, lines that begin with `#` and empty ones
/// are skipped. A field may stand in double quotes, in which two stand for one.
///
/// # Errors
/// If a line is malformed, or a task has two.
pub fn read_ranks(file: &str, text: &[u8]) -> Result<HashMap<String, Ranked>, RanksError> {
    let wrong = |line: usize, reason: String| RanksError {
        file: file.to_owned(),
        line,
        reason,
    };
    let text = std::str::from_utf8(text)
        .map_err(|_| wrong(0, "it is not UTF-8 text; save it as UTF-8".to_owned()))?;
    let mut ranks = HashMap::new();
    let mut is_first = true;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let may_be_heading = std::mem::replace(&mut is_first, false);
        let fields = fields(line).map_err(|reason| wrong(number, reason))?;
        let (task, priority, machine) = match &fields[..] {
            [task, priority] => (task, priority, ""),
            [task, priority, machine] => (task, priority, machine.as_str()),
            _ => {
                let reason = "a line should be TASK,PRIORITY or TASK,PRIORITY,MACHINE";
                return Err(wrong(number, reason.to_owned()));
            }
        };
        let Some(priority) = priority.parse().ok().filter(|it: &f64| it.is_finite()) else {
            if may_be_heading {
                continue;
            }
            return Err(wrong(
                number,
                format!("the priority `{priority}` is no number"),
            ));
        };
        let ranked = Ranked {
            priority,
            machine: (!machine.is_empty()).then(|| machine.to_owned()),
        };
        if ranks.insert(task.clone(), ranked).is_some() {
            return Err(wrong(number, format!("`{task}` has a priority already")));
        }
    }
    match ranks.is_empty() {
        true => Err(wrong(0, "it has no priorities".to_owned())),
        false => Ok(ranks),
    }
}

/// The fields of a line.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (part, behind) = quoted
                    .split_once('"')
                    .ok_or("a field that begins with a quote ends without one")?;
                field += part;
                match behind.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        quoted = more;
                    }
                    None => {
                        rest = behind;
                        break;
                    }
                }
            }
            if !(rest.is_empty() || rest.starts_with(',')) {
                return Err("a comma should stand behind a field in quotes".to_owned());
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field += rest[..end].trim();
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None => return Ok(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_read() {
        let text =
            b"task,priority,machine\n# a note\n\na, 1.5\n\"b, \"\"c\"\"\",-2,node-1\nd,1e3,\n";
        let ranks = read_ranks("r.csv", text).unwrap();
        let of = |name: &str| (ranks[name].priority, ranks[name].machine.as_deref());
        assert_eq!(of("a"), (1.5, None));
        assert_eq!(of("b, \"c\""), (-2.0, Some("node-1")));
        assert_eq!(of("d"), (1000.0, None));
        assert_eq!(ranks.len(), 3);
    }

    #[test]
    fn mistakes_are_told() {
        for (text, wanted) in [
            (&b""[..], "r.csv: it has no priorities"),
            (b"task,priority\n", "r.csv: it has no priorities"),
            (b"a\n", "r.csv:1: a line should be"),
            (b"a,1,m,x\n", "r.csv:1: a line should be"),
            (b"a,1\nb,x\n", "r.csv:2: the priority `x` is no number"),
            (b"a,1\nb,inf\n", "r.csv:2: the priority `inf`"),
            (b"a,1\na,2\n", "r.csv:2: `a` has a priority already"),
            (b"\"a,1\n", "ends without one"),
            (b"\"a\"b,1\n", "a comma should stand"),
            (b"\xff,1\n", "not UTF-8"),
        ] {
            let message = read_ranks("r.csv", text).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
