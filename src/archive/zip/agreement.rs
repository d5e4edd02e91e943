//! Whether readers of a zip agree about an entry: some go by the central directory, others by the
//! header before the data, and some heed what others don't know.

use super::mode::Attributes;
use crate::archive::name::EntryName;
use rawzip::extra_fields::{ExtraFieldId, ExtraFields};
use rawzip::{CompressionMethod, ZipFileHeaderRecord, ZipLocalFileHeader};

/// What the central directory says of an entry and its local header should say as well.
pub(super) struct Claims {
    method: CompressionMethod,
    encrypted: bool,
    crc32: u32,
    sizes: (u64, u64),
    /// Whether the record alone can be read in more than one way.
    is_odd: bool,
}

impl Claims {
    pub(super) fn new(record: &ZipFileHeaderRecord<'_>, attributes: Attributes) -> Self {
        let path = record.file_path();
        let name = path.as_bytes();
        // Of other makers, unzip takes a backslash for a slash.
        let is_foreign = !attributes.is_unix() && name.contains(&b'\\');
        let is_odd = attributes.is_odd()
            || is_foreign
            || is_named_otherwise(record.extra_fields(), name)
            || name.ends_with(b"/.")
            || name == b".";
        Self {
            method: record.compression_method(),
            encrypted: record.flags().is_encrypted(),
            crc32: record.crc32(),
            sizes: (record.compressed_size_hint(), record.uncompressed_size_hint()),
            is_odd,
        }
    }

    /// Whether all readers see the same in the record and the header, whose name is `name`.
    pub(super) fn agree(&self, header: &ZipLocalFileHeader<'_>, name: &EntryName) -> bool {
        let path = header.file_path();
        let sizes = (header.compressed_size_hint(), header.uncompressed_size_hint());
        let checks = (header.crc32(), sizes);
        // Who wrote it as a stream knew neither checksum nor sizes yet.
        let is_stream = header.flags().has_data_descriptor() && checks == (0, (0, 0));
        !self.is_odd
            && EntryName::new(path.as_bytes()) == *name
            && !is_named_otherwise(header.extra_fields(), path.as_bytes())
            && header.compression_method() == self.method
            && header.flags().is_encrypted() == self.encrypted
            && (is_stream || checks == (self.crc32, self.sizes))
    }
}

/// Whether Info-ZIP's field for names in Unicode has another name.
fn is_named_otherwise(fields: ExtraFields<'_>, name: &[u8]) -> bool {
    let mut fields = fields.filter(|(id, _)| *id == ExtraFieldId::INFO_ZIP_UNICODE_PATH);
    fields.any(|(_, data)| data.get(UNICODE_NAME..) != Some(name))
}

/// Where the name begins in its field, after a version and a checksum.
const UNICODE_NAME: usize = 5;
