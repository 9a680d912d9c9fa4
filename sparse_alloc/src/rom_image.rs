//! A ROM image, copied away from its file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use memory_range::{Access, PAGE_SIZE};
use nix::fcntl::SealFlag;

use crate::backing::Backing;
use crate::exclusion::Exclusion;
use crate::linear_view::{LinearView, LinearViewError};
use crate::mappable::Mappable;
use crate::{MappableError, memfd};

/// How much of a file is copied at a time.
const CHUNK: usize = 64 << 10;

/// A ROM image: a copy in a sealed memfd, padded with zeros to whole pages.
///
/// A change of the file that it came from, by a package upgrade for example, does not reach a
/// running guest. Nobody can map the copy writable, resize it, or write to its descriptor; only
/// the linear view of this process, made before the seals, can write it: that is how a loader
/// patches a ROM. A clone is cheap and is the same image.
///
/// ```
/// use memory_range::Access;
/// use sparse_alloc::{HostRange, RomImage};
///
/// let rom = RomImage::from_bytes("rom", b"\x55\xaa")?;
/// assert_eq!((rom.image_len(), rom.len()), (2, 0x1000));
/// assert_eq!(rom.mappable().access(), Access::ReadOnly);
/// HostRange::new(rom.linear_view().clone(), 2, 1)?.write(0, &[1])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RomImage {
    mappable: Mappable,
    view: Arc<LinearView>,
    image_len: u64,
    len: u64,
}

impl RomImage {
    /// Copies an image from memory.
    ///
    /// # Errors
    ///
    /// When it is empty, or the kernel makes no memfd of its size, or its linear view finds no room.
    pub fn from_bytes(name: &str, image: &[u8]) -> Result<Self, RomImageError> {
        Self::copy(name, |buffer, offset| {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let rest = image.get(offset..).unwrap_or(&[]);
            let len = rest.len().min(buffer.len());
            if let (Some(to), Some(from)) = (buffer.get_mut(..len), rest.get(..len)) {
                to.copy_from_slice(from);
            }
            Ok(len)
        })
    }

    /// Copies the whole of a file, from its start to the end that it has then. The file's position
    /// is neither used nor moved.
    ///
    /// # Errors
    ///
    /// As [`from_bytes`](Self::from_bytes), and when the file cannot be read.
    pub fn from_file(name: &str, file: &File) -> Result<Self, RomImageError> {
        Self::copy(name, |buffer, offset| file.read_at(buffer, offset))
    }

    fn copy(
        name: &str,
        read: impl Fn(&mut [u8], u64) -> io::Result<usize>,
    ) -> Result<Self, RomImageError> {
        let create = |source| RomImageError::Create {
            name: name.to_owned(),
            source,
        };
        let file = File::from(memfd::create(name).map_err(create)?);
        let mut buffer = vec![0; CHUNK];
        let mut image_len = 0_u64;
        loop {
            let chunk = match read(&mut buffer, image_len) {
                Ok(0) => break,
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(RomImageError::Read {
                        name: name.to_owned(),
                        offset: image_len,
                        source,
                    });
                }
            };
            let bytes = buffer.get(..chunk).unwrap_or(&buffer);
            file.write_all_at(bytes, image_len).map_err(create)?;
            image_len = u64::try_from(bytes.len())
                .ok()
                .and_then(|chunk| image_len.checked_add(chunk))
                .ok_or_else(|| create(io::Error::from_raw_os_error(libc::EFBIG)))?;
        }
        if image_len == 0 {
            return Err(RomImageError::Empty {
                name: name.to_owned(),
            });
        }
        let len = image_len
            .checked_next_multiple_of(PAGE_SIZE)
            .ok_or_else(|| create(io::Error::from_raw_os_error(libc::EFBIG)))?;
        memfd::resize(&file, len).map_err(create)?;
        Self::seal(name, file, image_len, len)
    }

    /// Maps the linear view, then closes the memfd to every other writer.
    fn seal(name: &str, file: File, image_len: u64, len: u64) -> Result<Self, RomImageError> {
        let exclusion = Exclusion::None;
        let view = LinearView::map(
            name,
            std::os::fd::AsFd::as_fd(&file),
            len,
            PAGE_SIZE,
            Access::ReadWrite,
            exclusion,
        )
        .map_err(|source| RomImageError::LinearView { source })?;
        let seals = SealFlag::F_SEAL_SHRINK
            | SealFlag::F_SEAL_GROW
            | SealFlag::F_SEAL_FUTURE_WRITE
            | SealFlag::F_SEAL_SEAL;
        memfd::seal(&file, seals).map_err(|source| RomImageError::Seal {
            name: name.to_owned(),
            source,
        })?;
        let mappable = Mappable::from_owned(name.to_owned(), file.into(), exclusion)
            .map_err(|source| RomImageError::Mappable { source })?;
        let view = mappable.adopt_linear_view(view);
        Ok(Self {
            mappable,
            view,
            image_len,
            len,
        })
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        self.mappable.name()
    }

    /// Returns the image as something to map into a [`Reservation`](crate::Reservation), read-only.
    pub fn mappable(&self) -> &Mappable {
        &self.mappable
    }

    /// Returns the one mapping that can write the image.
    pub fn linear_view(&self) -> &Arc<LinearView> {
        &self.view
    }

    /// Returns the length of the image proper in bytes, above zero.
    pub fn image_len(&self) -> u64 {
        self.image_len
    }

    /// Returns the length in bytes with its padding: whole pages.
    #[expect(clippy::len_without_is_empty, reason = "an image is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }
}

impl From<&RomImage> for Backing {
    fn from(image: &RomImage) -> Self {
        Self::Mappable(image.mappable.clone())
    }
}

/// Says why there is no ROM image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RomImageError {
    /// There is no byte in it.
    #[error("ROM image `{name}` is empty")]
    Empty {
        /// The name of the image.
        name: String,
    },
    /// The file cannot be read.
    #[error("ROM image `{name}` cannot be read at offset {offset:#x}")]
    Read {
        /// The name of the image.
        name: String,
        /// The offset in the file.
        offset: u64,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel made no memfd for the copy, or has no memory for it.
    #[error("ROM image `{name}` cannot be copied")]
    Create {
        /// The name of the image.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The copy cannot be sealed; Linux before 5.1 lacks F_SEAL_FUTURE_WRITE.
    #[error("ROM image `{name}` cannot be sealed")]
    Seal {
        /// The name of the image.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The copy cannot be mapped.
    #[error("the copy of the ROM image cannot be mapped")]
    Mappable {
        /// Why not.
        source: MappableError,
    },
    /// The linear view was not made.
    #[error("the ROM image has no linear view")]
    LinearView {
        /// Why not.
        source: LinearViewError,
    },
}
