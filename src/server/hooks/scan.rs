//! Finding the authentication plugins of this process.
//!
//! The server does not export its list of plugins. But it exports arrays of the builtin plugins, and every loaded plugin is a
//! library of this process that exports its declaration under a known name.

use std::ffi::{CStr, CString, c_int, c_ulong, c_void};
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::boundary::callback;
use crate::sys::{self, MYSQL_PLUGIN_VIO, MYSQL_SERVER_AUTH_INFO, ifo_authenticate_fn, st_maria_plugin};

/// A plugin's `authenticate_user`.
pub(super) type Authenticate = unsafe extern "C" fn(*mut MYSQL_PLUGIN_VIO, *mut MYSQL_SERVER_AUTH_INFO) -> i32;

/// An authentication plugin: where the pointer to its `authenticate_user` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plugin {
    slot: NonNull<ifo_authenticate_fn>,
    name: CString,
}

// SAFETY: the pointer is used under the table's lock only, and stays valid while the table holds the plugin's library.
unsafe impl Send for Plugin {}

impl Plugin {
    /// # Safety
    /// `declaration` is one of a plugin of this process, which stays mapped as long as the value lives.
    unsafe fn from(declaration: *const st_maria_plugin) -> Option<Self> {
        // SAFETY: the caller's promise.
        let (slot, name) = unsafe { (sys::ifo_c_authenticate_slot(declaration), (*declaration).name) };
        let slot = NonNull::new(slot)?;
        // SAFETY: a plugin's name is a constant that ends with NUL.
        let name = if name.is_null() { c"" } else { unsafe { CStr::from_ptr(name) } };
        Some(Self { slot, name: name.to_owned() })
    }

    pub(super) fn name(&self) -> &CStr {
        &self.name
    }

    /// The function that the server would call now.
    pub(super) fn current(&self) -> Option<Authenticate> {
        let function = self.pointer().load(Ordering::Relaxed);
        // SAFETY: null or a function, as every slot holds; an ifo_authenticate_fn has the same layout.
        unsafe { mem::transmute::<*mut (), ifo_authenticate_fn>(function) }
    }

    /// The slot. The server reads it in other threads at any time, without a lock, as 8 aligned bytes.
    fn pointer(&self) -> &AtomicPtr<()> {
        // SAFETY: valid and aligned while self lives; only put() writes it.
        unsafe { AtomicPtr::from_ptr(self.slot.as_ptr().cast()) }
    }

    /// Replaces the function. False if the memory cannot be made writable.
    pub(super) fn put(&self, function: Authenticate) -> bool {
        let page = Page::of(self.slot.as_ptr().cast());
        if page.protection.is_some_and(|was| !page.protect(was | libc::PROT_WRITE)) {
            return false;
        }
        // A thread that reads the new function also sees what was stored for it before.
        self.pointer().store(function as *mut (), Ordering::Release);
        if let Some(was) = page.protection {
            page.protect(was);
        }
        true
    }
}

/// A library of this process that is kept mapped while a value like this lives.
#[derive(Clone, Debug)]
pub(super) struct Library(Arc<Handle>);

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
    fn open(path: &CStr) -> Option<Self> {
        // SAFETY: path ends with NUL; NOLOAD runs no code of the library.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
        NonNull::new(handle).map(|handle| Self(Arc::new(Handle(handle))))
    }

    /// Whether both are the same library.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }

    /// The address of a symbol that this library itself defines, not one of its dependencies.
    fn own_symbol(&self, name: &CStr, base: usize) -> Option<NonNull<c_void>> {
        // SAFETY: an open handle and a string that ends with NUL.
        let address = NonNull::new(unsafe { libc::dlsym(self.0.0.as_ptr(), name.as_ptr()) })?;
        // SAFETY: all-zero bytes are a valid Dl_info, for dladdr to fill in.
        let mut info: libc::Dl_info = unsafe { mem::zeroed() };
        // SAFETY: info is a valid Dl_info; any address may be asked for.
        let found = unsafe { libc::dladdr(address.as_ptr(), &raw mut info) } != 0;
        (found && info.dli_fbase.addr() == base).then_some(address)
    }

    /// The declarations of the plugins in this library, and the size of each.
    fn declarations(&self, base: usize) -> Option<(*const st_maria_plugin, usize)> {
        let symbols = [
            (c"_maria_plugin_declarations_", c"_maria_sizeof_struct_st_plugin_"),
            (c"_mysql_plugin_declarations_", c"_mysql_sizeof_struct_st_plugin_"),
        ];
        symbols.into_iter().find_map(|(declarations, size)| {
            let declarations = self.own_symbol(declarations, base)?;
            let size = self.own_symbol(size, base)?;
            // SAFETY: the plugin interface defines this symbol as an int.
            let size = usize::try_from(unsafe { size.cast::<c_int>().read() }).ok()?;
            Some((declarations.as_ptr().cast_const().cast(), size))
        })
    }
}

/// Shows every authentication plugin of this process to `visit`, ours excepted, with its library unless it is builtin.
pub(super) fn for_each_plugin(mut visit: impl FnMut(Plugin, Option<&Library>)) {
    for_each_declaration(|declaration, library| {
        // SAFETY: a declaration, which stays mapped as long as its library does; the table keeps the library if it hooks one.
        if let Some(plugin) = unsafe { Plugin::from(declaration) } {
            visit(plugin, library);
        }
    });
}

/// Which classes of events the audit plugins of this process want, ours excepted, installed or not.
pub(super) fn audit_classes() -> c_ulong {
    let mut classes = 0;
    // SAFETY: a declaration of a plugin that is mapped during the call.
    for_each_declaration(|declaration, _| classes |= unsafe { sys::ifo_c_audit_classes(declaration) });
    classes
}

/// Shows the declaration of every plugin of this process to `visit`, that of our own hooks excepted, with its library unless it
/// is builtin. It stays mapped as long as the library is kept; builtin ones for good.
fn for_each_declaration(mut visit: impl FnMut(*const st_maria_plugin, Option<&Library>)) {
    // SAFETY: arrays of the server itself.
    let lists = unsafe { [sys::ifo_c_mandatory_plugins(), sys::ifo_c_optional_plugins()] };
    for list in lists {
        // SAFETY: NULL ends the list, which never changes; builtin plugins have the server's own struct, of which we know
        // at least the beginning, and are never unmapped.
        unsafe {
            let mut entry = list;
            while !(*entry).is_null() {
                walk(*entry, size_of::<st_maria_plugin>(), |declaration| visit(declaration, None));
                entry = entry.add(1);
            }
        }
    }
    for object in loaded_objects() {
        let Some(library) = Library::open(&object.path) else { continue };
        let Some((declarations, size)) = library.declarations(object.base) else { continue };
        // SAFETY: what the library declares as a plugin, in the size it says.
        unsafe { walk(declarations, size, |declaration| visit(declaration, Some(&library))) };
    }
}

/// # Safety
/// `first` starts an array of plugin declarations of `size` bytes each. A declaration without info ends the array, which
/// stays mapped.
unsafe fn walk(first: *const st_maria_plugin, size: usize, mut visit: impl FnMut(*const st_maria_plugin)) {
    // The end of st_mysql_plugin, the shorter of the two structs a plugin may declare. Less cannot be a plugin.
    if size < mem::offset_of!(st_maria_plugin, version_info) {
        return;
    }
    let mut declaration = first;
    // SAFETY: the caller's promise; an array of these is aligned as its first element is.
    unsafe {
        while !(*declaration).info.is_null() {
            if !ptr::addr_eq((*declaration).info, &raw const sys::ifo_c_auth) {
                visit(declaration);
            }
            declaration = declaration.byte_add(size);
        }
    }
}

/// A library of this process.
struct Object {
    path: CString,
    base: usize,
}

fn loaded_objects() -> Vec<Object> {
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

/// How many libraries this process has ever loaded.
pub(super) fn libraries_loaded() -> u64 {
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
