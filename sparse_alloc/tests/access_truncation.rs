//! Files that someone truncates while they are mapped.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod access_support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use access_support::{PAGE, Pages, truncate, unsealed_file};
use sparse_alloc::access::{self, CopyFault, Fault, FaultKind};

#[test]
fn what_the_file_lost_is_a_bus_fault() {
    access::install().unwrap();
    let file = unsealed_file(2);
    let pages = Pages::of_file(2, &file);
    pages.put(0, &[3; 2 * PAGE]);
    truncate(&file, 1);

    let fault = |offset: usize| Fault::new(pages.at(offset).addr(), FaultKind::Bus);
    // SAFETY: inside the pages.
    assert_eq!(unsafe { access::load(pages.at(PAGE)) }, Err(fault(PAGE)));
    // SAFETY: as above.
    assert_eq!(unsafe { access::load(pages.at(PAGE - 1)) }, Ok(3_u8));
    // SAFETY: as above.
    let result = unsafe { access::store(pages.at(PAGE + 5), 1_u8) };
    assert_eq!(result, Err(fault(PAGE + 5)));
    let mut host = [0; 1000];
    for len in [5, 16, 60, 100, 1000] {
        for before in 0..=len.min(130) {
            let expected = if before == len {
                Ok(())
            } else {
                Err(CopyFault {
                    done: before,
                    fault: fault(PAGE),
                })
            };
            let guest = pages.at(PAGE - before);
            // SAFETY: inside the pages; `host` is long enough.
            let result = unsafe { access::copy_from(host.as_mut_ptr(), guest, len) };
            assert_eq!(result, expected);
            // SAFETY: as above.
            let result = unsafe { access::copy_to(guest, host.as_ptr(), len) };
            assert_eq!(result, expected);
        }
    }
    truncate(&file, 2);
    // SAFETY: as above.
    assert_eq!(unsafe { access::load(pages.at(PAGE).cast::<u32>()) }, Ok(0));
}

/// Readers go on while the file loses and regains its second half: every result is the bytes, or
/// a bus fault inside the half that was lost.
#[test]
fn readers_survive_truncation() {
    access::install().unwrap();
    const PAGES: usize = 8;
    let file = unsealed_file(PAGES);
    let pages = Pages::of_file(PAGES, &file);
    pages.put(0, &[9; PAGES / 2 * PAGE]);
    let lost = pages.at(PAGES / 2 * PAGE).addr()..pages.at(PAGES * PAGE).addr();
    let stop = AtomicBool::new(false);
    let faults = AtomicUsize::new(0);
    let successes = AtomicUsize::new(0);

    std::thread::scope(|scope| {
        let read = || {
            let mut host = vec![0; PAGES * PAGE];
            while !stop.load(Ordering::Relaxed) {
                let (dst, len) = (host.as_mut_ptr(), host.len());
                // SAFETY: inside the pages; `host` is as long.
                match unsafe { access::copy_from(dst, pages.at(0), len) } {
                    Ok(()) => successes.fetch_add(1, Ordering::Relaxed),
                    Err(stopped) => {
                        assert_eq!(stopped.fault.kind(), FaultKind::Bus);
                        assert!(lost.contains(&stopped.fault.address()));
                        assert_eq!(pages.at(stopped.done).addr(), stopped.fault.address());
                        faults.fetch_add(1, Ordering::Relaxed)
                    }
                };
                assert!(host[..PAGES / 2 * PAGE].iter().all(|byte| *byte == 9));
                // SAFETY: as above.
                match unsafe { access::load(pages.at(PAGES / 2 * PAGE).cast::<u64>()) } {
                    Ok(word) => assert_eq!(word, 0),
                    Err(fault) => assert_eq!(fault.kind(), FaultKind::Bus),
                }
            }
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        // Until both outcomes were seen often, however slow the machine is, or a check failed.
        let enough = |count: &AtomicUsize| count.load(Ordering::Relaxed) >= 200;
        let failed = || readers.iter().any(|reader| reader.is_finished());
        let finished = || failed() || (enough(&faults) && enough(&successes));
        while !finished() {
            truncate(&file, PAGES / 2);
            std::thread::yield_now();
            truncate(&file, PAGES);
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
}
