//! `-D` flags: where charts and start scripts put the settings that they do not write into the file.
//!
//! They come from `SERVER_JVMFLAGS`, then `JVMFLAGS`, then the command line; the last one wins, and a key of
//! the file wins over all of them. Everything else that stands among them (`-Xmx1g`, `-javaagent:…`) is for a
//! JVM; it is kept only to be named once in the log.

use std::collections::BTreeMap;

/// What stood in the flag variables and on the command line in front of the arguments.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Flags {
    /// The system properties of `-Dname=value`; `-Dname` alone has the empty value, as in Java.
    pub properties: BTreeMap<String, String>,
    /// Words that are not `-D` flags, in their order.
    pub for_a_jvm: Vec<String>,
}

impl Flags {
    /// The flags of `SERVER_JVMFLAGS` and `JVMFLAGS`, in the order in which the start script joins them.
    ///
    /// ```
    /// let flags = zooid::config::Flags::from_variables(Some("-Xmx1g -Djute.maxbuffer=0x400000"), None);
    /// assert_eq!(flags.properties["jute.maxbuffer"], "0x400000");
    /// assert_eq!(flags.for_a_jvm, ["-Xmx1g"]);
    /// ```
    pub fn from_variables(server_jvmflags: Option<&str>, jvmflags: Option<&str>) -> Self {
        let mut flags = Self::default();
        for word in [server_jvmflags, jvmflags].into_iter().flatten().flat_map(split_words) {
            flags.push(&word);
        }
        flags
    }

    /// Adds one word: a later `-D` of the same name replaces an earlier one.
    pub fn push(&mut self, word: &str) {
        match word.strip_prefix("-D") {
            Some(definition) => {
                let (name, value) = definition.split_once('=').unwrap_or((definition, ""));
                self.properties.insert(name.to_owned(), value.to_owned());
            }
            None => self.for_a_jvm.push(word.to_owned()),
        }
    }

    /// The flags and the arguments of a command line. Words that begin with `-` are flags until the first
    /// argument; behind it a word is an argument, whatever it looks like.
    pub fn push_command_line<'a>(&mut self, words: &'a [String]) -> &'a [String] {
        let arguments = words.iter().position(|word| !word.starts_with('-')).unwrap_or(words.len());
        for word in &words[..arguments] {
            self.push(word);
        }
        &words[arguments..]
    }
}

/// Splits as a shell does: at blanks, except between quotes, which vanish. A backslash stays what it is, as
/// it does when a shell expands a variable; an unclosed quote runs to the end.
fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_blanks_outside_quotes() {
        assert_eq!(split_words(" -Da=1\t-Db='x y' \n-Dc=\"\" '' d\\"), ["-Da=1", "-Db=x y", "-Dc=", "", "d\\"]);
        assert_eq!(split_words("-XX:OnOutOfMemoryError='kill -9 %p"), ["-XX:OnOutOfMemoryError=kill -9 %p"]);
        assert!(split_words("  ").is_empty());
    }

    #[test]
    fn the_last_flag_wins_and_the_command_line_is_last() {
        let mut flags = Flags::from_variables(Some("-Da=1 -Db=1 -Dc=1"), Some("-Db=2 -Dc=2"));
        let words = ["-Dc=3", "-Dd", "zoo.cfg", "-Da=9"].map(str::to_owned);
        assert_eq!(flags.push_command_line(&words), ["zoo.cfg", "-Da=9"]);
        let values: Vec<&str> = flags.properties.values().map(String::as_str).collect();
        assert_eq!(values, ["1", "2", "3", ""]);
    }
}
