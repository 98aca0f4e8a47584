//! What is loaded into this process: the program and its libraries, as the dynamic linker knows them.

use std::ffi::{CStr, CString, c_int, c_void};
use std::mem;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::boundary::callback;

/// A library of this process that is kept mapped while a value like this lives.
#[derive(Clone, Debug)]
pub(crate) struct Library(Arc<Handle>);

#[derive(Debug)]
struct Handle(NonNull<c_void>);

// SAFETY: what dlopen returns may be used and closed by any thread.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: opened by Library::open, closed once.
        unsafe { libc::dlclose(self.0.as_ptr()) };
    }
}

impl Library {
    /// A library that is loaded; `None` if it no longer is.
    pub(crate) fn open(path: &CStr) -> Option<Self> {
        // SAFETY: path ends with NUL; NOLOAD runs no code of the library.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
        NonNull::new(handle).map(|handle| Self(Arc::new(Handle(handle))))
    }

    /// The program itself, and all that it was linked with.
    fn program() -> Option<Self> {
        // SAFETY: as above; NULL stands for the program.
        let handle = unsafe { libc::dlopen(ptr::null(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
        NonNull::new(handle).map(|handle| Self(Arc::new(Handle(handle))))
    }

    /// Whether both are the same library.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }

    /// The address of a symbol that this library itself defines, not one of its dependencies.
    pub(crate) fn own_symbol(&self, name: &CStr, base: usize) -> Option<NonNull<c_void>> {
        // SAFETY: an open handle and a string that ends with NUL.
        let address = NonNull::new(unsafe { libc::dlsym(self.0.0.as_ptr(), name.as_ptr()) })?;
        // SAFETY: all-zero bytes are a valid Dl_info, for dladdr to fill in.
        let mut info: libc::Dl_info = unsafe { mem::zeroed() };
        // SAFETY: info is a valid Dl_info; any address may be asked for.
        let found = unsafe { libc::dladdr(address.as_ptr(), &raw mut info) } != 0;
        (found && info.dli_fbase.addr() == base).then_some(address)
    }
}

/// A library of this process.
pub(crate) struct Object {
    pub(crate) path: CString,
    /// Where it begins: what `dladdr` calls its base.
    pub(crate) base: usize,
}

/// The libraries of this process, without the program itself.
pub(crate) fn libraries() -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    each_object(&mut |info| {
        if !info.dlpi_name.is_null() {
            // SAFETY: the linker's own name of the library, ending with NUL; copied while the linker's lock is held.
            let path = unsafe { CStr::from_ptr(info.dlpi_name) };
            // The program itself has no name; what it holds is builtin.
            if !path.is_empty() {
                objects.push(Object { path: path.to_owned(), base: load_address(info) });
            }
        }
        true
    });
    objects
}

/// The program or library that an address belongs to.
pub(crate) struct Module<'a> {
    /// Empty for the program.
    path: CString,
    base: usize,
    /// Its code.
    pub(crate) code: Vec<Range<usize>>,
    /// Its initialised data that it may write to, or that the linker could write to while it loaded it.
    pub(crate) data: Vec<Data<'a>>,
    /// What it may not write to: its constants, and all else that is read.
    pub(crate) constants: Vec<Constants<'a>>,
    /// The code of all modules of this process.
    pub(crate) all_code: Vec<Range<usize>>,
}

/// Words of memory of a module. They may change at any time.
#[derive(Clone, Copy)]
pub(crate) struct Data<'a> {
    /// The address of the first word.
    pub(crate) start: usize,
    pub(crate) words: &'a [AtomicUsize],
}

/// Memory of a module that does not change.
#[derive(Clone, Copy)]
pub(crate) struct Constants<'a> {
    /// The address of the first byte.
    pub(crate) start: usize,
    pub(crate) bytes: &'a [u8],
}

impl Constants<'_> {
    /// Whether these bytes are at this address.
    pub(crate) fn has(&self, address: usize, bytes: &[u8]) -> bool {
        address
            .checked_sub(self.start)
            .and_then(|first| self.bytes.get(first..first.checked_add(bytes.len())?))
            .is_some_and(|there| there == bytes)
    }
}

/// So many words at this address, if it is aligned and they are in one of these segments.
pub(crate) fn find_words<'a>(data: &[Data<'a>], address: usize, count: usize) -> Option<&'a [AtomicUsize]> {
    data.iter().find_map(|segment| {
        let offset = address.checked_sub(segment.start)?;
        let first = offset / size_of::<usize>();
        (offset % size_of::<usize>() == 0).then(|| segment.words.get(first..first.checked_add(count)?)).flatten()
    })
}

impl Module<'_> {
    /// The one with this address.
    ///
    /// # Safety
    /// It stays loaded as long as the value lives.
    pub(crate) unsafe fn at(place: *const c_void) -> Option<Self> {
        let (mut found, mut all_code) = (None, Vec::new());
        each_object(&mut |info| {
            let (mut code, mut data, mut constants, mut is_here) = (Vec::new(), Vec::new(), Vec::new(), false);
            for header in program_headers(info).iter().filter(|header| header.p_type == libc::PT_LOAD) {
                let start = address(info.dlpi_addr) + address(header.p_vaddr);
                let memory = start..start + address(header.p_memsz);
                is_here |= memory.contains(&place.addr());
                let from_file = start..start + address(header.p_filesz);
                match (header.p_flags & libc::PF_W != 0, header.p_flags & libc::PF_X != 0) {
                    (true, false) => data.push(from_file),
                    (false, _) if header.p_flags & libc::PF_R != 0 => constants.push(from_file),
                    _ => {}
                }
                if header.p_flags & libc::PF_X != 0 {
                    code.push(memory);
                }
            }
            all_code.extend(code.iter().cloned());
            if is_here {
                // SAFETY: the linker's own name of the module, ending with NUL; copied while the linker's lock is held.
                let name = (!info.dlpi_name.is_null()).then(|| unsafe { CStr::from_ptr(info.dlpi_name) });
                found = Some((name.unwrap_or_default().to_owned(), load_address(info), code, data, constants));
            }
            true
        });
        let (path, base, code, data, constants) = found?;
        // SAFETY: segments of a module that stays loaded, mapped and readable from their first byte to the last.
        let data = data.into_iter().map(|segment| unsafe { Data::new(segment) }).collect();
        // SAFETY: the same; and nothing writes to these.
        let constants = constants.into_iter().map(|segment| unsafe { Constants::new(segment) }).collect();
        Some(Self { path, base, code, data, constants, all_code })
    }

    /// The address of a symbol that it exports.
    pub(crate) fn symbol(&self, name: &CStr) -> Option<NonNull<c_void>> {
        let library = if self.path.is_empty() { Library::program() } else { Library::open(&self.path) };
        library?.own_symbol(name, self.base)
    }
}

impl Constants<'_> {
    /// # Safety
    /// `segment` is mapped, readable and never written as long as the value lives.
    unsafe fn new(segment: Range<usize>) -> Self {
        // SAFETY: the caller's promise.
        let bytes = unsafe { std::slice::from_raw_parts(ptr::with_exposed_provenance(segment.start), segment.len()) };
        Self { start: segment.start, bytes }
    }
}

impl Data<'_> {
    /// # Safety
    /// `segment` is mapped and readable as long as the value lives.
    unsafe fn new(segment: Range<usize>) -> Self {
        let start = segment.start.next_multiple_of(size_of::<usize>());
        let count = segment.end.saturating_sub(start) / size_of::<usize>();
        // SAFETY: mapped and aligned. The module may write to it meanwhile, so words are read atomically.
        let words = unsafe { std::slice::from_raw_parts(ptr::with_exposed_provenance(start), count) };
        Self { start, words }
    }
}

/// A pointer to a function in the data of a module, which other threads may read at any time, without a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(NonNull<*mut ()>);

// SAFETY: read and written as 8 aligned bytes at once.
unsafe impl Send for Slot {}

impl Slot {
    /// # Safety
    /// Valid and aligned as long as the value lives; nothing else writes it meanwhile.
    pub(crate) const unsafe fn new(place: NonNull<*mut ()>) -> Self {
        Self(place)
    }

    /// The function, or null.
    pub(crate) fn load(self) -> *mut () {
        self.pointer().load(Ordering::Relaxed)
    }

    fn pointer(&self) -> &AtomicPtr<()> {
        // SAFETY: the promise of new().
        unsafe { AtomicPtr::from_ptr(self.0.as_ptr()) }
    }

    /// Replaces the function. False if the memory cannot be made writable.
    pub(crate) fn store(self, function: *mut ()) -> bool {
        let page = Page::of(self.0.as_ptr().cast());
        if page.protection.is_some_and(|was| !page.protect(was | libc::PROT_WRITE)) {
            return false;
        }
        // A thread that reads the new function also sees what was stored for it before.
        self.pointer().store(function, Ordering::Release);
        if let Some(was) = page.protection {
            page.protect(was);
        }
        true
    }
}

/// How many libraries this process has ever loaded.
pub(crate) fn count() -> u64 {
    let mut loaded = 0;
    each_object(&mut |info| {
        loaded = info.dlpi_adds;
        false
    });
    loaded
}

/// Shows each library to `visit` until it returns false. The linker's lock is held meanwhile: `visit` must not load or
/// unload anything, nor wait for a thread that does.
fn each_object(visit: &mut dyn FnMut(&libc::dl_phdr_info) -> bool) {
    callback! {
        pointer fn step(info: *mut libc::dl_phdr_info, _size: usize, visit: *mut c_void) -> c_int {
            // SAFETY: the pointer that was passed beside this function, below.
            let visit = unsafe { &mut *visit.cast::<&mut dyn FnMut(&libc::dl_phdr_info) -> bool>() };
            // SAFETY: valid during the call. Every glibc since 2.4 fills in all fields.
            c_int::from(!visit(unsafe { &*info }))
        } on_panic {
            // Look no further.
            1
        }
    }
    let mut visit = visit;
    // SAFETY: step has the signature that is asked for, and gets the pointer it expects.
    unsafe { libc::dl_iterate_phdr(Some(step), (&raw mut visit).cast()) };
}

fn program_headers(info: &libc::dl_phdr_info) -> &[libc::Elf64_Phdr] {
    if info.dlpi_phdr.is_null() {
        return &[];
    }
    // SAFETY: the linker's own table of that many headers, mapped as long as the library is.
    unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) }
}

/// Where the first segment is: what dladdr calls the base of a library.
fn load_address(info: &libc::dl_phdr_info) -> usize {
    let first = program_headers(info).iter().find(|header| header.p_type == libc::PT_LOAD);
    let page = page_size();
    address(info.dlpi_addr) + first.map_or(0, |header| address(header.p_vaddr)) / page * page
}

/// The memory around one pointer.
struct Page {
    start: usize,
    length: usize,
    /// The protection of the memory, if it is not writable.
    protection: Option<c_int>,
}

impl Page {
    fn of(pointer: *const c_void) -> Self {
        let page = page_size();
        let start = pointer.addr() / page * page;
        let length = (pointer.addr() + size_of::<usize>()).next_multiple_of(page) - start;
        let mut protection = None;
        each_object(&mut |info| {
            for header in program_headers(info) {
                let segment = address(info.dlpi_addr) + address(header.p_vaddr);
                let end = segment + address(header.p_memsz);
                // The linker protects whole pages only: what is left of the last one stays writable.
                let end = if header.p_type == libc::PT_GNU_RELRO { end / page * page } else { end };
                if !(segment..end).contains(&pointer.addr()) {
                    continue;
                }
                match header.p_type {
                    libc::PT_LOAD if header.p_flags & libc::PF_W == 0 => {
                        let executable = if header.p_flags & libc::PF_X == 0 { 0 } else { libc::PROT_EXEC };
                        protection = Some(libc::PROT_READ | executable);
                    }
                    // The part of a writable segment that the linker protects once it is done with it.
                    libc::PT_GNU_RELRO => protection = Some(libc::PROT_READ),
                    _ => {}
                }
            }
            protection.is_none()
        });
        Self { start, length, protection }
    }

    fn protect(&self, protection: c_int) -> bool {
        let start = ptr::with_exposed_provenance_mut(self.start);
        // SAFETY: whole pages of a mapped library, which stay readable; only put() writes there meanwhile.
        unsafe { libc::mprotect(start, self.length, protection) == 0 }
    }
}

fn page_size() -> usize {
    // SAFETY: no arguments but a constant.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// An address from the linker.
fn address(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
