//! The checksum of any stretch of a file at the price of a short one. Adler-32 is two sums, so that of a
//! stretch follows from the sums up to its start and up to its end, and those are kept for every few bytes.
//!
//! Without it, looking for records in damaged bytes takes a time that grows with the square of their number:
//! a client can write data in which everything looks like the start of a long record.

use simd_adler32::Adler32;

use super::Source;

/// Bytes between two sums that are kept.
const SPACING: u64 = 1024;
/// What Adler-32 counts by.
const MODULUS: u64 = 65521;

pub(super) struct Sums<'a, S> {
    source: &'a S,
    from: u64,
    /// Of the bytes from `from` up to `from`, up to `from + SPACING`, and so on.
    kept: Vec<u32>,
}

impl<'a, S: Source> Sums<'a, S> {
    /// For stretches that start at `from` or behind.
    pub(super) fn new(source: &'a S, from: u64) -> Self {
        Self { source, from, kept: vec![Adler32::new().finish()] }
    }

    /// The checksum of the bytes from `start` up to `end`, which is no later than the end of the file.
    pub(super) fn of(&mut self, start: u64, end: u64) -> Result<u32, S::Error> {
        let (before, whole) = (halves(self.up_to(start)?), halves(self.up_to(end)?));
        // The first sum starts at 1. The second has it added once for every byte.
        let carried = before.0 + MODULUS - 1;
        let first = whole.0 + MODULUS - carried % MODULUS;
        let second = whole.1 + 2 * MODULUS - before.1 - (end - start) % MODULUS * carried % MODULUS;
        let (first, second) = (first % MODULUS, second % MODULUS);
        Ok((second << 16 | first) as u32)
    }

    fn up_to(&mut self, at: u64) -> Result<u32, S::Error> {
        let steps = (at - self.from) / SPACING;
        while self.kept.len() as u64 <= steps {
            let next = self.continued(self.kept.len() - 1, SPACING)?;
            self.kept.push(next);
        }
        self.continued(steps as usize, (at - self.from) % SPACING)
    }

    /// A sum that is kept, and the next `len` bytes.
    fn continued(&self, step: usize, len: u64) -> Result<u32, S::Error> {
        let mut sum = Adler32::from_checksum(self.kept[step]);
        sum.write(&self.source.read(self.from + step as u64 * SPACING, len as usize)?);
        Ok(sum.finish())
    }
}

fn halves(sum: u32) -> (u64, u64) {
    (u64::from(sum & 0xffff), u64::from(sum >> 16))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_stretch_has_the_checksum_that_it_has_alone() {
        for fill in [0u8, 0xff, 0x5a] {
            let file: Bytes = (0..200_000u32).map(|at| fill ^ (at.wrapping_mul(at) >> 7) as u8).collect();
            let mut sums = Sums::new(&file, 3);
            let ends = [3, 4, 5, 1026, 1027, 1028, 65_523, 65_524, 65_525, 131_045, 199_999, 200_000];
            for start in ends {
                for end in ends.into_iter().filter(|end| *end >= start) {
                    let expected = simd_adler32::adler32(&&file[start..end]);
                    assert_eq!(sums.of(start as u64, end as u64), Ok(expected), "{start}..{end}");
                }
            }
        }
    }
}
