//! The signal handler, and how it comes to be installed.

use std::ffi::{c_int, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::chain;
use super::fault::{Fault, FaultKind};
use super::install_error::InstallError;
use super::table::RecoveryTable;
use super::x86_64::Interrupted;

/// The recovery table, from the first installation on. Reading it in the handler is a load.
static TABLE: OnceLock<RecoveryTable> = OnceLock::new();

/// How many of [`chain::SIGNALS`] have their handler.
static INSTALLED: Mutex<usize> = Mutex::new(0);

/// Installs the handler that catches the faults of this module's accesses.
///
/// Any thread may call it, any number of times; the handler is installed once, for the whole
/// process, and stays. From then on an access that faults returns an error; before, it kills the
/// process. The handlers that were there before are called for every fault that is not an
/// access's.
///
/// The handler runs on the thread's alternate signal stack if it has one. All signals are blocked
/// while it runs, so that no other handler's access can fault inside it; a handler that it passes
/// a fault on to runs with the signals blocked that it asked for.
///
/// A library that replaces the handlers for `SIGSEGV` or `SIGBUS` afterwards must pass on what
/// is not its own, as this one does. It is not put back if someone removes it.
///
/// # Errors
///
/// [`InstallError`]; a later call tries again.
pub fn install() -> Result<(), InstallError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed == chain::SIGNALS.len() {
        return Ok(());
    }
    if TABLE.get().is_none() {
        // The lock makes this the only writer.
        let _ = TABLE.set(RecoveryTable::read()?);
    }
    while let Some(&signal) = chain::SIGNALS.get(*installed) {
        chain::replace_handler(signal, on_fault)
            .map_err(|source| InstallError::Refused { signal, source })?;
        *installed += 1;
    }
    Ok(())
}

/// Catches a fault of an access; passes on everything else.
///
/// Async-signal-safe: on the first path it only reads the table and writes registers.
unsafe extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's arguments, or those of a handler that chains to this one.
    if unsafe { recover(signal, info, context) }.is_none() {
        // SAFETY: as above.
        unsafe { chain::pass_on(signal, info, context) };
    }
}

/// Makes the thread go on at the recovery of the access that faulted. `None` if the signal is not
/// the fault of an access.
///
/// # Safety
///
/// `info` and `context` are null, or the arguments of a running `SA_SIGINFO` handler.
unsafe fn recover(signal: c_int, info: *const libc::siginfo_t, context: *mut c_void) -> Option<()> {
    if info.is_null() {
        return None;
    }
    // SAFETY: by the caller's promise, and not null.
    let report = unsafe { Report::read(info) };
    let fault = report.fault(signal)?;
    // SAFETY: the caller's promise.
    let mut thread = unsafe { Interrupted::new(context) }?;
    let recovery = TABLE.get()?.find(thread.instruction())?;
    if let Some(register) = recovery.status {
        thread.set_register(register, fault.to_status());
    }
    thread.set_instruction(recovery.resume);
    Some(())
}

/// What a signal's `siginfo_t` says about a fault.
#[derive(Copy, Clone)]
struct Report {
    code: c_int,
    address: usize,
    /// The lowest bit of the address that means something. Set for hardware errors only.
    address_lsb: i16,
}

impl Report {
    /// Where `si_addr_lsb` stands; the C library's type keeps it to itself. (Linux,
    /// `include/uapi/asm-generic/siginfo.h`: after three ints, padding and a pointer.)
    const ADDRESS_LSB_AT: usize = 24;

    /// # Safety
    ///
    /// `info` points to a `siginfo_t`.
    unsafe fn read(info: *const libc::siginfo_t) -> Self {
        // SAFETY: by the caller's promise; nobody writes it while the handler runs.
        let fields = unsafe { &*info };
        let code = fields.si_code;
        // SAFETY: any bytes that stand there are a pointer; it is not followed.
        let address = unsafe { fields.si_addr() }.addr();
        let lsb = info.cast::<u8>().wrapping_add(Self::ADDRESS_LSB_AT);
        // SAFETY: within the 128 bytes of a `siginfo_t`.
        let address_lsb = unsafe { lsb.cast::<i16>().read_unaligned() };
        Self {
            code,
            address,
            address_lsb,
        }
    }

    /// Returns the fault of the interrupted instruction; `None` if the signal is not the
    /// consequence of that instruction, although it may have interrupted an access.
    fn fault(self, signal: c_int) -> Option<Fault> {
        if !chain::is_synchronous(signal, self.code) {
            return None;
        }
        let kind = match (signal, self.code) {
            (libc::SIGSEGV, _) => FaultKind::Access,
            (libc::SIGBUS, libc::BUS_ADRALN) => FaultKind::Misaligned,
            (libc::SIGBUS, libc::BUS_MCEERR_AR) => FaultKind::HardwareError {
                page_shift: u8::try_from(self.address_lsb).unwrap_or(0),
            },
            (libc::SIGBUS, _) => FaultKind::Bus,
            _ => return None,
        };
        Some(Fault::new(self.address, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes up what the kernel would say.
    fn siginfo(code: c_int, address: usize, lsb: i16) -> libc::siginfo_t {
        let mut bytes = [0_u8; size_of::<libc::siginfo_t>()];
        bytes[8..12].copy_from_slice(&code.to_ne_bytes());
        bytes[16..24].copy_from_slice(&address.to_ne_bytes());
        bytes[24..26].copy_from_slice(&lsb.to_ne_bytes());
        // SAFETY: as many bytes as the type has, all of it plain numbers.
        unsafe { std::mem::transmute::<[u8; 128], libc::siginfo_t>(bytes) }
    }

    fn report(code: c_int, address: usize, lsb: i16) -> Report {
        let info = siginfo(code, address, lsb);
        // SAFETY: it points to a `siginfo_t`.
        unsafe { Report::read(&raw const info) }
    }

    /// Every instruction that may fault, with every kind of signal: the thread goes on where the
    /// table says, and the fault is in the register that it names.
    #[test]
    fn a_thread_goes_on_with_the_fault_in_its_register() {
        static WORD: u64 = 7;
        install().unwrap();
        // SAFETY: the word is readable.
        assert_eq!(unsafe { super::super::load(&raw const WORD) }, Ok(7));
        let table = TABLE.get().unwrap();
        assert!(table.entries().iter().any(|entry| entry.status.is_some()));
        let page_shift = 12;
        let cases = [
            (
                libc::SIGBUS,
                libc::BUS_MCEERR_AR,
                Some(FaultKind::HardwareError { page_shift }),
            ),
            (libc::SIGBUS, libc::BUS_ADRERR, Some(FaultKind::Bus)),
            (libc::SIGSEGV, 1, Some(FaultKind::Access)),
            (libc::SIGSEGV, libc::SI_USER, None),
            (libc::SIGBUS, libc::BUS_MCEERR_AO, None),
        ];
        for entry in table.entries() {
            for (signal, code, kind) in cases {
                let info = siginfo(code, 0x7000_0000_1000, i16::from(page_shift));
                // SAFETY: all zeroes is a valid context.
                let mut context: libc::ucontext_t = unsafe { std::mem::zeroed() };
                let rip = libc::REG_RIP as usize;
                context.uc_mcontext.gregs[rip] = entry.first_instruction() as i64;
                let mut expected = context.uc_mcontext.gregs;
                if let Some(kind) = kind {
                    expected[rip] = entry.resume as i64;
                    if let Some(register) = entry.status {
                        let fault = Fault::new(0x7000_0000_1000, kind);
                        expected[register] = fault.to_status() as i64;
                    }
                }
                // SAFETY: both are what a handler would be given.
                let ours = unsafe { recover(signal, &raw const info, (&raw mut context).cast()) };
                assert_eq!(ours.is_some(), kind.is_some());
                assert_eq!(context.uc_mcontext.gregs, expected);
            }
        }
    }

    #[test]
    fn a_machine_check_is_told_with_its_page() {
        let fault = report(libc::BUS_MCEERR_AR, 0x7000_0000_1000, 12)
            .fault(libc::SIGBUS)
            .unwrap();
        assert_eq!(fault.kind(), FaultKind::HardwareError { page_shift: 12 });
        assert_eq!(fault.address(), 0x7000_0000_1000);
        assert_eq!(fault.lost_page(), Some(0x7000_0000_1000..0x7000_0000_2000));

        let huge = report(libc::BUS_MCEERR_AR, 0x7000_0000_1000, 21)
            .fault(libc::SIGBUS)
            .unwrap();
        assert_eq!(huge.lost_page(), Some(0x7000_0000_0000..0x7000_0020_0000));
    }

    #[test]
    fn a_machine_check_elsewhere_is_no_fault_of_an_access() {
        let report = report(libc::BUS_MCEERR_AO, 0x1000, 12);
        assert_eq!(report.fault(libc::SIGBUS), None);
    }

    #[test]
    fn what_was_sent_is_no_fault() {
        for code in [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL] {
            for signal in chain::SIGNALS {
                assert_eq!(report(code, 0x1000, 0).fault(signal), None);
            }
        }
    }

    #[test]
    fn the_code_tells_the_kind() {
        // Linux, include/uapi/asm-generic/siginfo.h: SEGV_MAPERR, SEGV_ACCERR and SI_KERNEL.
        let cases = [
            (libc::SIGSEGV, 1, FaultKind::Access),
            (libc::SIGSEGV, 2, FaultKind::Access),
            (libc::SIGSEGV, 0x80, FaultKind::Access),
            (libc::SIGBUS, libc::BUS_ADRALN, FaultKind::Misaligned),
            (libc::SIGBUS, libc::BUS_ADRERR, FaultKind::Bus),
            (libc::SIGBUS, libc::BUS_OBJERR, FaultKind::Bus),
        ];
        for (signal, code, kind) in cases {
            let fault = report(code, 0x1234, 0).fault(signal).unwrap();
            assert_eq!((fault.kind(), fault.address()), (kind, 0x1234));
        }
        assert_eq!(report(1, 0x1234, 0).fault(libc::SIGILL), None);
    }
}
