//! Where the znodes of a run are: `ROOT/p<parent>/k<key>`, key `n` under parent `n % parents`. All names of one kind
//! are equally long, so that a request is a copy of a template with other digits (see `wire`).

/// The tree that a run works in.
#[derive(clap::Args, Clone, Debug)]
pub struct Names {
    /// Everything is created below this znode
    #[arg(long, default_value = "/bench")]
    pub root: String,
    /// Number of znodes
    #[arg(long, default_value_t = 100_000)]
    pub keys: u64,
    /// Number of their parents
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub parents: u64,
    /// Bytes of data in each
    #[arg(long, default_value_t = 100)]
    pub value_size: usize,
}

/// Which child of a parent.
#[derive(Clone, Copy)]
pub enum Child {
    /// One that `fill` has made.
    Key(u64),
    /// One that no other run and no other request has made.
    Fresh(u64),
}

/// Digits of a fresh name: all of a `u64`.
const FRESH_DIGITS: usize = 20;

impl Names {
    pub fn parent_digits(&self) -> usize {
        digits(self.parents - 1)
    }

    pub fn key_digits(&self) -> usize {
        digits(self.keys.saturating_sub(1))
    }

    pub fn fresh_digits(&self) -> usize {
        FRESH_DIGITS
    }

    pub fn parent(&self, parent: u64) -> String {
        format!("{}/p{parent:0width$}", self.root, width = self.parent_digits())
    }

    pub fn child(&self, parent: u64, child: Child) -> String {
        let parent = self.parent(parent);
        match child {
            Child::Key(n) => format!("{parent}/k{n:0width$}", width = self.key_digits()),
            Child::Fresh(n) => format!("{parent}/n{n:0width$}", width = FRESH_DIGITS),
        }
    }

    /// The root's data once everything below it is there, so that the next run need not create it again.
    pub fn seal(&self) -> String {
        format!("zooid bench: {} znodes of {} bytes under {} parents", self.keys, self.value_size, self.parents)
    }
}

fn digits(largest: u64) -> usize {
    largest.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_kind_are_equally_long() {
        let names = Names { root: "/b".into(), keys: 1_000, parents: 10, value_size: 1 };
        assert_eq!(names.child(3, Child::Key(0)), "/b/p3/k000");
        assert_eq!(names.child(9, Child::Key(999)), "/b/p9/k999");
        let names = Names { parents: 11, ..names };
        assert_eq!(names.child(10, Child::Key(10)), "/b/p10/k010");
        assert_eq!(names.parent(0), "/b/p00");
    }
}
