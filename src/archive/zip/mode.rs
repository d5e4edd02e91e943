//! Permissions in a zip, which every maker has in a way of its own; read as Info-ZIP's unzip 6.0
//! does, which is what opam runs.

use rawzip::{CreatorSystem, ZipFileHeaderRecord};

/// An entry's maker and what it said of permissions.
#[derive(Clone, Copy)]
pub(super) struct Attributes {
    maker: CreatorSystem,
    /// The high half is a Unix mode, the low one has MS-DOS's bits.
    bits: u32,
}

impl Attributes {
    pub(super) fn of(record: &ZipFileHeaderRecord<'_>) -> Self {
        let maker = record.version_made_by().creator_system();
        Self { maker, bits: record.external_attributes() }
    }

    /// The permissions; none where nothing is said but that anyone may read it.
    pub(super) fn mode(self) -> Option<u32> {
        let unix = (self.bits >> 16) & PERMISSIONS;
        if self.is_unix() {
            return Some(unix);
        }
        let writable = u32::from(self.bits & READ_ONLY == 0) << 1;
        let dos = writable | u32::from(self.bits & FOLDER != 0);
        // PKZIP calls itself MS-DOS on Unix as well; its mode counts where the rest agrees.
        if self.maker == CreatorSystem::FAT && unix & 0o700 == 0o400 | dos << 6 {
            return Some(unix);
        }
        (dos & 1 == 1).then_some(0o444 | (dos * 0o111))
    }

    /// Whether it is a symbolic link.
    pub(super) fn is_link(self) -> bool {
        self.is_unix() && self.has_link_type()
    }

    pub(super) fn is_unix(self) -> bool {
        self.maker == CreatorSystem::UNIX
    }

    /// Whether readers of zip may differ about it.
    pub(super) fn is_odd(self) -> bool {
        let unix = self.bits >> 16;
        match self.maker {
            CreatorSystem::UNIX => false,
            // The name of a disk is no file.
            _ if self.bits & VOLUME_LABEL != 0 => true,
            CreatorSystem::FAT => self.has_link_type(),
            CreatorSystem::NTFS | CreatorSystem::VFAT | CreatorSystem::MACOS => unix != 0,
            _ => self.bits != 0,
        }
    }

    fn has_link_type(self) -> bool {
        (self.bits >> 16) & FILE_TYPE == SYMLINK
    }
}

const FILE_TYPE: u32 = 0o170_000;
const FOLDER: u32 = 0x10;
/// The bits of a mode that a file system keeps.
const PERMISSIONS: u32 = 0o7777;
const READ_ONLY: u32 = 1;
const SYMLINK: u32 = 0o120_000;
const VOLUME_LABEL: u32 = 8;
