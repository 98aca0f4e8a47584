//! Compiles the C shim and reads its header.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// Names the directory of MariaDB's headers: with `mysql.h`, and `server/mysql/plugin_auth.h` below it.
const OVERRIDE: &str = "MARIADB_INCLUDE";

const REMEDY: &str = "install MariaDB's headers (Debian: apt-get install libmariadbd-dev), or name the directory that \
                      holds mysql.h and server/mysql/plugin_auth.h in MARIADB_INCLUDE";

fn main() {
    println!("cargo:rerun-if-changed=c-shim");
    println!("cargo:rerun-if-env-changed={OVERRIDE}");

    let include = Headers::find();
    let mut shim = cc::Build::new();
    shim.include("c-shim").std("gnu11").warnings(true).extra_warnings(true);
    shim.clone()
        .flag("-isystem")
        .flag(&include.server)
        .file("c-shim/server_plugin.c")
        .compile("instant_failover_server");
    shim.clone()
        .include("c-shim/compat")
        .flag("-isystem")
        .flag(&include.client)
        .file("c-shim/client_plugin.c")
        .compile("instant_failover_client");
    // Whole: what refers to it comes from Rust's standard library, after it on the linker's command line.
    shim.file("c-shim/old_glibc.c").link_lib_modifier("+whole-archive").compile("instant_failover_old_glibc");
    bindings(&include.server);

    // Threads may be inside our code when the server unloads the library.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // Calls inside the library stay inside, whatever else the process has loaded.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    // No undefined symbols except the server's functions, which are weak. (Fuzzers and sanitizers add functions of their
    // own.)
    if ["CARGO_CFG_FUZZING", "CARGO_CFG_SANITIZE"].iter().all(|cfg| env::var_os(cfg).is_none()) {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,defs");
    }
    wrap_for_old_glibc();
}

/// Redirects calls that need it to `c-shim/old_glibc.c`.
fn wrap_for_old_glibc() {
    let target = |what| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if ["x86_64", "aarch64"].contains(&target("ARCH").as_str()) && target("ENV") == "gnu" {
        for function in [
            "dladdr",
            "dlclose",
            "dlopen",
            "dlsym",
            "fstat64",
            "gettid",
            "stat64",
            "statx",
            "pthread_attr_setstacksize",
            "pthread_create",
            "pthread_detach",
            "pthread_join",
            "pthread_setname_np",
            "pthread_key_create",
            "pthread_key_delete",
            "pthread_setspecific",
        ] {
            println!("cargo:rustc-cdylib-link-arg=-Wl,--wrap={function}");
        }
    }
}

/// MariaDB's headers.
struct Headers {
    /// Those of Connector/C, with `mysql.h`.
    client: PathBuf,
    /// Those for plugins of the server, with `mysql/plugin_auth.h`.
    server: PathBuf,
}

impl Headers {
    fn find() -> Self {
        let (client, from) = match env::var_os(OVERRIDE) {
            Some(dir) => (PathBuf::from(dir), OVERRIDE),
            None => match Command::new("mariadb_config").arg("--variable=pkgincludedir").output() {
                Ok(output) => (PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()), "mariadb_config"),
                Err(_) => stop(&format!("mariadb_config was not found; {REMEDY}")),
            },
        };
        let server = client.join("server");
        for header in [client.join("mysql/client_plugin.h"), server.join("mysql/plugin_auth.h")] {
            if !header.is_file() {
                stop(&format!("{} is missing, where {from} says it is; {REMEDY}", header.display()));
            }
        }
        Self { client, server }
    }
}

fn bindings(include: &Path) {
    // bindgen panics where libclang is missing; what to do about it is said below.
    let generated = std::panic::catch_unwind(|| {
        bindgen::Builder::default()
            .header("c-shim/shim.h")
            .clang_arg(format!("-isystem{}", include.display()))
            .allowlist_item("ifo_.*|IFO_.*|st_maria_plugin|CR_OK|CR_ERROR|CR_AUTH_USER_CREDENTIALS")
            .allowlist_item("MARIA_PLUGIN_INTERFACE_VERSION|MYSQL_AUTHENTICATION_PLUGIN|MYSQL_AUDIT_PLUGIN")
            .allowlist_item("MYSQL_AUDIT_(GENERAL|CONNECTION)_CLASSMASK|MYSQL_THD")
            .allowlist_item("PLUGIN_LICENSE_BSD|MariaDB_PLUGIN_MATURITY_GAMMA")
            // Exported by us, declared for C.
            .blocklist_function("ifo_rs_.*")
            // C owns what is in these.
            .opaque_type("st_plugin_vio|st_mysql_server_auth_info|st_mysql_auth|st_mysql_audit|st_mysql_sys_var|st_mysql_show_var|THD")
            .default_macro_constant_type(bindgen::MacroTypeVariation::Signed)
            .rustified_enum(
                "ifo_variable|ifo_severity|ifo_encoding|ifo_presence|ifo_count|ifo_feature|ifo_client_phase",
            )
            .prepend_enum_name(false)
            .wrap_unsafe_ops(true)
            .generate_comments(false)
            .generate()
    });
    match generated {
        Ok(Ok(bindings)) => {
            let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("shim.rs");
            if let Err(error) = bindings.write_to_file(&out) {
                stop(&format!("{}: {error}", out.display()));
            }
        }
        Ok(Err(error)) => stop(&format!("c-shim/shim.h cannot be read: {error}")),
        Err(_) => stop("libclang is missing or too old; install it (Debian: apt-get install libclang-dev)"),
    }
}

fn stop(why: &str) -> ! {
    eprintln!("instant-failover: {why}");
    exit(1)
}
