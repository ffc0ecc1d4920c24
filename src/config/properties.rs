//! The syntax of `zoo.cfg`: a Java properties file, byte for byte.
//!
//! Files that work today must mean the same tomorrow, and they lean on corners of this syntax: a blank as
//! separator, a backslash at the line's end, a `#` that is part of a value. So this is Java's reader, step
//! for step, and not a friendlier one.
//!
//! Java: `java.util.Properties.load`.

use std::collections::BTreeMap;

/// The keys and values of a file, trimmed; a key given twice has its last value.
///
/// ```
/// let properties = zooid::config::parse_properties(b"tickTime 3000\n! a comment\ndata\\\n   Dir = /a b # c\n").unwrap();
/// assert_eq!(properties["tickTime"], "3000");
/// assert_eq!(properties["dataDir"], "/a b # c");
/// ```
pub fn parse_properties(bytes: &[u8]) -> Result<BTreeMap<String, String>, MalformedEscape> {
    let mut properties = BTreeMap::new();
    let mut rest = bytes;
    while let Some(line) = next_logical_line(&mut rest) {
        let (key, value) = split_line(&line);
        let (key, value) = (unescape(key)?, unescape(value)?);
        // Java's server trims both again, after the escapes have been resolved.
        properties.insert(trim(&key).to_owned(), trim(&value).to_owned());
    }
    Ok(properties)
}

/// A `\u` without four hexadecimal digits behind it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("Malformed \\uxxxx encoding.")]
pub struct MalformedEscape;

/// Java's `String.trim`: everything up to the blank, control characters included, and no other white space.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ')
}

/// The next line that is neither blank nor a comment, with its continuations, escapes still in it.
fn next_logical_line(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let mut skipping_blanks = true;
    let mut at_continuation = false;
    let mut odd_backslashes = false;
    let mut skip_line_feed = false;
    while let Some((&byte, tail)) = rest.split_first() {
        *rest = tail;
        if std::mem::take(&mut skip_line_feed) && byte == b'\n' {
            continue;
        }
        if skipping_blanks {
            if is_blank(byte) || (!at_continuation && is_line_end(byte)) {
                continue;
            }
            skipping_blanks = false;
            at_continuation = false;
        }
        // Also behind a continuation that has joined nothing yet.
        if line.is_empty() && matches!(byte, b'#' | b'!') {
            // A comment ends with its natural line: a backslash at its end joins nothing.
            let end = rest.iter().position(|&b| is_line_end(b)).unwrap_or(rest.len());
            *rest = &rest[end..];
            skipping_blanks = true;
            continue;
        }
        if !is_line_end(byte) {
            line.push(byte);
            odd_backslashes = byte == b'\\' && !odd_backslashes;
        } else if line.is_empty() {
            // A continuation that joined nothing to nothing: the next line starts anew.
            skipping_blanks = true;
        } else if odd_backslashes {
            line.pop();
            if rest.is_empty() {
                return Some(line);
            }
            skipping_blanks = true;
            // The next line belongs to this one even if it is blank, and then ends it.
            at_continuation = true;
            odd_backslashes = false;
            skip_line_feed = byte == b'\r';
        } else {
            return Some(line);
        }
    }
    if line.is_empty() {
        return None;
    }
    if odd_backslashes {
        line.pop();
    }
    Some(line)
}

/// Key and value of a logical line: the key ends at the first unescaped `=`, `:` or blank, and blanks
/// around one separator belong to neither.
fn split_line(line: &[u8]) -> (&[u8], &[u8]) {
    let mut key_end = 0;
    let mut escaped = false;
    while key_end < line.len() {
        let byte = line[key_end];
        if !escaped && (is_separator(byte) || is_blank(byte)) {
            break;
        }
        escaped = byte == b'\\' && !escaped;
        key_end += 1;
    }
    let mut value_start = key_end;
    let mut separator_seen = false;
    while value_start < line.len() {
        let byte = line[value_start];
        if is_separator(byte) && !separator_seen {
            separator_seen = true;
        } else if !is_blank(byte) {
            break;
        }
        value_start += 1;
    }
    (&line[..key_end], &line[value_start..])
}

/// Bytes are ISO-8859-1; `\uXXXX` are UTF-16 units, so two of them can make one character.
fn unescape(bytes: &[u8]) -> Result<String, MalformedEscape> {
    let mut units: Vec<u16> = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'\\' {
            units.push(byte.into());
            continue;
        }
        match rest.next() {
            Some(b'u') => {
                let mut unit = 0;
                for _ in 0..4 {
                    let digit = rest.next().and_then(|&b| char::from(b).to_digit(16)).ok_or(MalformedEscape)?;
                    unit = unit << 4 | digit as u16;
                }
                units.push(unit);
            }
            Some(b't') => units.push(b'\t'.into()),
            Some(b'r') => units.push(b'\r'.into()),
            Some(b'n') => units.push(b'\n'.into()),
            Some(b'f') => units.push(0x0c),
            Some(&other) => units.push(other.into()),
            None => {}
        }
    }
    Ok(String::from_utf16_lossy(&units))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0c)
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'=' | b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let properties = parse_properties(text.as_bytes()).expect("the text has no malformed escape");
        let found: Vec<(&str, &str)> = properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    // config 8.1 #1
    #[test]
    fn blank_colon_and_equals_all_separate() {
        for text in
            ["tickTime 3000", "tickTime:3000", "tickTime = 3000", "tickTime=30\\\n00", "\t\x0ctickTime\t=\t3000\r\n"]
        {
            check(text, &[("tickTime", "3000")]);
        }
    }

    // config 8.1 #2
    #[test]
    fn comments_are_whole_lines_only() {
        check("! x=1\n  # y=2\\\nz=3 # part of it", &[("z", "3 # part of it")]);
    }

    // config 8.1 #3
    #[test]
    fn the_last_of_two_values_counts() {
        check("a=1\na=2\r", &[("a", "2")]);
    }

    #[test]
    fn a_continuation_drops_leading_blanks_and_one_line_end() {
        check("a=b\\\r\n   c\\\\\nd=e", &[("a", "bc\\"), ("d", "e")]);
        check("a=b\\\n\nc=d", &[("a", "b"), ("c", "d")]);
        check("a=b\\\n#c=d", &[("a", "b#c=d")]);
        check("a=b\\", &[("a", "b")]);
        check("\\\n\n#x\ny=1", &[("y", "1")]);
        check("\\\n#x\ny=1", &[("y", "1")]);
        check("\\\n", &[("", "")]);
    }

    #[test]
    fn escapes_are_resolved_in_keys_and_values() {
        check("a\\ b\\=c\\:d=\\t\\u0041\\x\\\\", &[("a b=c:d", "Ax\\")]);
        check("k=\\uD83D\\uDE00", &[("k", "\u{1f600}")]);
        check("k==:v", &[("k", "=:v")]);
        check("k", &[("k", "")]);
        assert_eq!(parse_properties(b"k=\\u12g4"), Err(MalformedEscape));
        assert_eq!(parse_properties(b"k=\\u12"), Err(MalformedEscape));
    }

    #[test]
    fn bytes_are_latin_1() {
        let properties = parse_properties(b"k=\xe9").unwrap();
        assert_eq!(properties["k"], "\u{e9}");
    }
}
