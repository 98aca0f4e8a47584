//! Finding the authentication plugins of this process.
//!
//! The server does not export its list of plugins. But it exports arrays of the builtin plugins, and every loaded plugin is a
//! library of this process that exports its declaration under a known name.

use std::ffi::{CStr, CString, c_int, c_ulong};
use std::mem;
use std::ptr::{self, NonNull};

use crate::loaded::{self, Library, Slot};
use crate::sys::{self, MYSQL_PLUGIN_VIO, MYSQL_SERVER_AUTH_INFO, ifo_authenticate_fn, st_maria_plugin};

/// A plugin's `authenticate_user`.
pub(super) type Authenticate = unsafe extern "C" fn(*mut MYSQL_PLUGIN_VIO, *mut MYSQL_SERVER_AUTH_INFO) -> i32;

/// An authentication plugin: where the pointer to its `authenticate_user` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plugin {
    slot: Slot,
    name: CString,
}

impl Plugin {
    /// # Safety
    /// `declaration` is one of a plugin of this process, which stays mapped as long as the value lives.
    unsafe fn from(declaration: *const st_maria_plugin) -> Option<Self> {
        // SAFETY: the caller's promise.
        let (slot, name) = unsafe { (sys::ifo_c_authenticate_slot(declaration), (*declaration).name) };
        // SAFETY: valid while the plugin is mapped, aligned, and only we write it. A pointer to a function, or NULL.
        let slot = unsafe { Slot::new(NonNull::new(slot)?.cast()) };
        // SAFETY: a plugin's name is a constant that ends with NUL.
        let name = if name.is_null() { c"" } else { unsafe { CStr::from_ptr(name) } };
        Some(Self { slot, name: name.to_owned() })
    }

    pub(super) fn name(&self) -> &CStr {
        &self.name
    }

    /// The function that the server would call now.
    pub(super) fn current(&self) -> Option<Authenticate> {
        // SAFETY: null or a function, as every slot holds; an ifo_authenticate_fn has the same layout.
        unsafe { mem::transmute::<*mut (), ifo_authenticate_fn>(self.slot.load()) }
    }

    /// Replaces the function. False if the memory cannot be made writable.
    pub(super) fn put(&self, function: Authenticate) -> bool {
        self.slot.store(function as *mut ())
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
    for object in loaded::libraries() {
        let Some(library) = Library::open(&object.path) else { continue };
        let Some((declarations, size)) = declarations(&library, object.base) else { continue };
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

/// The declarations of the plugins in a library, and the size of each.
fn declarations(library: &Library, base: usize) -> Option<(*const st_maria_plugin, usize)> {
    let symbols = [
        (c"_maria_plugin_declarations_", c"_maria_sizeof_struct_st_plugin_"),
        (c"_mysql_plugin_declarations_", c"_mysql_sizeof_struct_st_plugin_"),
    ];
    symbols.into_iter().find_map(|(declarations, size)| {
        let declarations = library.own_symbol(declarations, base)?;
        let size = library.own_symbol(size, base)?;
        // SAFETY: the plugin interface defines this symbol as an int.
        let size = usize::try_from(unsafe { size.cast::<c_int>().read() }).ok()?;
        Some((declarations.as_ptr().cast_const().cast(), size))
    })
}
