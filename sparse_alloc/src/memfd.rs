//! Making and sealing memfds.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};

/// Makes an empty memfd that can be sealed, and that other users cannot open anew.
///
/// The kernel makes memfds with a mode that lets everybody open them: whoever is given a descriptor that
/// only reads could get one that writes through `/proc/self/fd`.
pub(crate) fn create(name: &str) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Guest memory is not for `execve`. Kernels before 6.3 do not know the flag.
    let no_exec = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    let file = match memfd_create(name, flags | no_exec) {
        Err(Errno::EINVAL) => memfd_create(name, flags),
        result => result,
    }?;
    fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok(file)
}

/// Sets the length in bytes.
pub(crate) fn resize(file: impl AsFd, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(|_| io::Error::from(Errno::EFBIG))?;
    nix::unistd::ftruncate(file, len).map_err(io::Error::from)
}

/// Adds seals, for everyone who has the file and for ever.
pub(crate) fn seal(file: impl AsFd, seals: SealFlag) -> io::Result<()> {
    fcntl(file, FcntlArg::F_ADD_SEALS(seals))
        .map(drop)
        .map_err(io::Error::from)
}
