//! How much one archive may cost.

/// What a reading stops at. The defaults fit every archive of the public repository many times
/// over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Inflated bytes of one reading of one archive; a comparison is at most two readings of each.
    pub inflated_bytes: u64,
    /// How many bytes one byte may inflate to, on the whole; what is over it is a bomb.
    pub inflation_ratio: u64,
    /// Inflated bytes that are allowed whatever the ratio.
    pub inflation_floor: u64,
    /// Members, streams or frames of one compressed file; each costs time even where it is empty.
    pub members: usize,
    /// The window of a decoder, in bytes; this much memory may be in use while one archive is read.
    pub window: u64,
    /// Entries of one archive.
    pub entries: usize,
    /// The bytes of one name or link target.
    pub name_len: usize,
    /// The bytes of all names, link targets and owners together; once they are printable they may
    /// be six times as long.
    pub names_bytes: usize,
    /// The bytes of one extended header of tar.
    pub extended_header: usize,
    /// The bytes of one text file for which lines are compared.
    pub text_file: usize,
    /// The bytes of all text files that are kept of one archive, to compare their lines.
    pub text_bytes: usize,
    /// The bytes of all line differences together.
    pub diff_bytes: usize,
    /// How hard it may be to find all line differences together: for each file, the product of how
    /// many lines it has on either side, without those that it begins and ends with on both.
    pub diff_steps: u64,
    /// How many changes or remarks are told one by one.
    pub listed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inflated_bytes: 4 << 30,
            inflation_ratio: 200,
            inflation_floor: 256 << 20,
            members: 1 << 17,
            window: 128 << 20,
            entries: 200_000,
            name_len: 4096,
            names_bytes: 32 << 20,
            extended_header: 1 << 20,
            text_file: 1 << 20,
            text_bytes: 4 << 20,
            diff_bytes: 256 << 10,
            // Measured as one to two seconds of one core, for texts that are hard to compare.
            diff_steps: 1_000_000_000,
            listed: 1000,
        }
    }
}

impl Limits {
    /// How many bytes an archive of `size` bytes may inflate to.
    pub(super) fn inflated(&self, size: u64) -> u64 {
        let by_ratio = size.saturating_mul(self.inflation_ratio);
        by_ratio.max(self.inflation_floor).min(self.inflated_bytes)
    }
}
