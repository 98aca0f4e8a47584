//! Where MariaDB is installed: on this machine, or in the root directory of another Debian release.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build::Arch;
use crate::packages::is_root;
use crate::{output, packages, project_root, target_dir};

/// A system with MariaDB.
#[derive(Clone, Debug)]
pub struct System {
    /// None for this machine.
    root: Option<PathBuf>,
}

/// The packages to unpack into another release's root: MariaDB, its tests, and the programs that the tests call.
const PACKAGES: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "grep",
    "hostname",
    "libc-bin",
    "libmariadb-dev",
    "mariadb-client",
    "mariadb-plugin-gssapi-server",
    "mariadb-server",
    "mariadb-test",
    "mawk",
    "netbase",
    "patch",
    "procps",
    "sed",
];

/// Runs a program in another root, where the directories from `$2` to `--` are at their usual places. All mounts, and all
/// processes it started, end with it.
const IN_ROOT: &str = r#"
set -e
root=$1; shift
mount -t proc proc "$root/proc"
while [ "$1" != -- ]; do mkdir -p "$root$1"; mount --rbind "$1" "$root$1"; shift; done
shift
exec chroot "$root" "$@"
"#;

impl System {
    /// This machine.
    #[must_use]
    pub fn this() -> Self {
        Self { root: None }
    }

    /// The system with this root directory.
    ///
    /// # Errors
    /// If it contains no MariaDB, or this user may not change the root directory.
    pub fn at(root: &Path) -> Result<Self> {
        if !root.join("usr/sbin/mariadbd").exists() {
            bail!("{} is not the root directory of a system with MariaDB: it has no usr/sbin/mariadbd", root.display());
        }
        if !is_root() {
            bail!("only root can run the programs of another system ({})", root.display());
        }
        Ok(Self { root: Some(root.canonicalize()?) })
    }

    /// A Debian release, by the name of its suite. It is unpacked, not installed, which takes seconds, and kept in the
    /// target directory.
    ///
    /// # Errors
    /// If its packages cannot be downloaded.
    pub fn debian(suite: &str) -> Result<Self> {
        Self::unpacked(suite, suite, &[])
    }

    /// The same for 64-bit ARM, the programs of which this machine then emulates.
    ///
    /// # Errors
    /// As for [`debian`](Self::debian), and if this user may not say who runs such programs.
    pub fn debian_arm64(suite: &str) -> Result<Self> {
        emulate_arm64()?;
        Self::unpacked(suite, &format!("{suite}-arm64"), &["--architectures=arm64"])
    }

    fn unpacked(suite: &str, name: &str, options: &[&str]) -> Result<Self> {
        let roots = target_dir().join("roots");
        let root = roots.join(name);
        if !root.is_dir() {
            packages::install(&[packages::ROOTS])?;
            eprintln!("Unpacking MariaDB of Debian {name} ...");
            fs::create_dir_all(&roots)?;
            let new = tempfile::Builder::new().prefix(suite).tempdir_in(&roots)?;
            let unpacked = new.path().join("root");
            output(
                Command::new("mmdebstrap")
                    .args(["--quiet", "--mode=root", "--variant=extract"])
                    .args(options)
                    // A mirror's copy of an unstable release may be past its Valid-Until date. Signatures are checked.
                    .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
                    .arg(format!("--include={}", PACKAGES.join(",")))
                    .arg(suite)
                    .arg(&unpacked)
                    .arg(mirror()?),
            )?;
            // What installing the packages would have done.
            for file in ["passwd", "group"] {
                fs::copy(
                    unpacked.join(format!("usr/share/base-passwd/{file}.master")),
                    unpacked.join("etc").join(file),
                )?;
            }
            fs::copy(unpacked.join("usr/share/libc-bin/nsswitch.conf"), unpacked.join("etc/nsswitch.conf"))?;
            fs::copy("/etc/hosts", unpacked.join("etc/hosts"))?;
            symlink("mawk", unpacked.join("usr/bin/awk"))?;
            fs::create_dir_all(unpacked.join("proc"))?;
            fs::rename(unpacked, &root)?;
        }
        Self::at(&root)
    }

    /// A program of that system, to run in this directory. The project, its target directory and `/tmp` are at the same paths
    /// as here.
    pub fn command(&self, directory: &Path, program: impl AsRef<OsStr>) -> Command {
        let Some(root) = &self.root else {
            let mut command = Command::new(program);
            command.current_dir(directory);
            return command;
        };
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", IN_ROOT, "sh"]).arg(root);
        command.args(["/dev", "/tmp"]).arg(project_root()).arg(target_dir());
        command
            .args(["--", "env", "--chdir"])
            .arg(directory)
            .args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"])
            .arg(program);
        command
    }

    /// The path from here of a file of that system.
    #[must_use]
    pub fn path(&self, file: &Path) -> PathBuf {
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        root.join(file.strip_prefix("/").unwrap_or(file))
    }

    fn ask(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<String> {
        output(self.command(Path::new("/"), program).args(arguments))
    }

    /// Its server program.
    pub(crate) fn mariadbd(&self) -> PathBuf {
        self.root.as_ref().map_or_else(mariadbd, |_| "/usr/sbin/mariadbd".into())
    }

    /// Its name, for example `Debian GNU/Linux 12 (bookworm)`.
    ///
    /// # Errors
    /// If it has no name.
    pub fn name(&self) -> Result<String> {
        let file = fs::read_to_string(self.path(Path::new("/usr/lib/os-release")))?;
        let name = file.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        name.map(|name| name.trim_matches('"').to_owned()).context("/usr/lib/os-release has no PRETTY_NAME")
    }

    /// The version of its server, for example `10.11.19`.
    ///
    /// # Errors
    /// If it does not run.
    pub fn server_version(&self) -> Result<String> {
        let text = self.ask(self.mariadbd(), &["--no-defaults", "--version"])?;
        let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let version = version.with_context(|| format!("no version in {text:?}"))?;
        Ok(version.split('-').next().unwrap_or_default().to_owned())
    }

    /// The version of its Connector/C.
    ///
    /// # Errors
    /// If it has none.
    pub fn connector_version(&self) -> Result<String> {
        self.ask("mariadb_config", &["--cc_version"]).map(|version| version.trim().to_owned())
    }

    /// The version of its C library.
    ///
    /// # Errors
    /// If it is not glibc.
    pub fn glibc_version(&self) -> Result<String> {
        let text = self.ask("getconf", &["GNU_LIBC_VERSION"])?;
        text.split_whitespace().nth(1).map(str::to_owned).with_context(|| format!("no version in {text:?}"))
    }

    /// Fills a new directory with plugins for a server of that system: `library` as `instant_failover.so`, and those of its
    /// MariaDB.
    ///
    /// # Errors
    /// If it cannot be created, or there is no mariadbd.
    pub fn install_plugins(&self, directory: &Path, library: &Path) -> Result<()> {
        let help = self.ask(self.mariadbd(), &["--no-defaults", "--verbose", "--help"])?;
        let plugins = help.lines().find_map(|line| line.strip_prefix("plugin-dir "));
        self.fill(directory, library, Path::new(plugins.context("mariadbd has no plugin-dir")?.trim()))
    }

    /// Fills a new directory with plugins for a program on Connector/C that follows redirects: `library` as
    /// `instant_failover.so`, and Connector/C's own plugins. Set `MARIADB_PLUGIN_DIR` to it for the program.
    ///
    /// # Errors
    /// If it cannot be created, or there is no `mariadb_config`.
    pub fn install_client_plugins(&self, directory: &Path, library: &Path) -> Result<()> {
        let mut plugins = PathBuf::from(self.ask("mariadb_config", &["--plugindir"])?.trim());
        if !self.path(&plugins).is_dir() {
            // Debian's, since 11.8.9, asks the compiler for a part of the path. Without one, look for the directory.
            let below = fs::read_dir(self.path(Path::new("/usr/lib")))?.filter_map(Result::ok);
            let mut known = below.map(|entry| Path::new("/usr/lib").join(entry.file_name()).join("libmariadb3/plugin"));
            plugins = known.find(|directory| self.path(directory).is_dir()).with_context(|| {
                format!("mariadb_config says that plugins are in {}: no such directory", plugins.display())
            })?;
        }
        self.fill(directory, library, &plugins)
    }

    /// Our library comes first: an installed copy of it must be neither used nor overwritten.
    fn fill(&self, directory: &Path, library: &Path, plugins: &Path) -> Result<()> {
        const OURS: &str = "instant_failover.so";
        fs::create_dir_all(directory)?;
        fs::copy(library, directory.join(OURS)).with_context(|| format!("cannot copy {}", library.display()))?;
        // Debian's mariadb-server-core comes without plugins, and without a directory for them.
        let from = self.path(plugins);
        if !from.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(&from).with_context(|| format!("no plugins in {}", from.display()))? {
            let name = entry?.file_name();
            if name != OURS {
                symlink(plugins.join(&name), directory.join(&name))?;
            }
        }
        Ok(())
    }
}

/// The server program of this machine. On Debian it is in a directory that is not in the PATH of ordinary users.
#[must_use]
pub fn mariadbd() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    directories.map(|directory| directory.join("mariadbd")).find(|program| program.is_file()).unwrap_or_default()
}

/// Lets this machine run programs for 64-bit ARM, by qemu.
///
/// # Errors
/// If this user may not say who runs such programs.
pub fn emulate_arm64() -> Result<()> {
    packages::install(&[packages::ARM64_TEST])?;
    let binfmt = Path::new("/proc/sys/fs/binfmt_misc");
    if !binfmt.join("status").exists() {
        output(Command::new("mount").args(["-t", "binfmt_misc", "binfmt_misc"]).arg(binfmt))?;
    }
    if !binfmt.join("qemu-aarch64").exists() {
        output(Command::new("update-binfmts").args(["--enable", "qemu-aarch64"]))?;
    }
    Ok(())
}

/// What a server needs where it is emulated. Otherwise `InnoDB` reserves 8 TB of addresses, and qemu keeps account of each page of
/// them; and there is no asynchronous I/O.
const EMULATED: &str = r"[mariadbd]\ninnodb_buffer_pool_size_max = 64M\ninnodb_use_native_aio = 0\n";

/// The root directory of a Debian release with a MariaDB server installed as on a machine, its backup program, rpm, and systemd's
/// tools. No service is ever started there. It is kept in the target directory. If it is for another architecture, this machine
/// emulates that.
///
/// # Errors
/// If its packages cannot be downloaded.
pub fn installed(suite: &str, arch: Arch) -> Result<PathBuf> {
    let roots = target_dir().join("roots");
    let foreign = arch != Arch::THIS;
    let name = if foreign { format!("installed-{suite}-{arch}") } else { format!("installed-{suite}") };
    let root = roots.join(&name);
    if foreign {
        emulate_arm64()?;
    }
    if !root.is_dir() {
        packages::install(&[packages::ROOTS])?;
        eprintln!("Installing MariaDB of Debian {suite} ({arch}) in a root directory ...");
        fs::create_dir_all(&roots)?;
        let directory = tempfile::Builder::new().prefix(suite).tempdir_in(&roots)?;
        let new = directory.path().join("root");
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args([
            "--quiet",
            "--mode=root",
            "--variant=apt",
            "--include=mariadb-server,mariadb-backup,rpm,systemd",
        ]);
        if foreign {
            // That they run has been seen to, above. Installing the server starts it, for a moment.
            let file = "\"$1\"/etc/mysql/mariadb.conf.d/90-emulated.cnf";
            let hook = format!("mkdir -p $(dirname {file}); printf '{EMULATED}' >{file}");
            mmdebstrap.arg(format!("--architectures={arch}")).arg("--skip=check/qemu");
            mmdebstrap.arg(format!("--essential-hook={hook}"));
        }
        output(
            mmdebstrap
                .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
                .arg("--aptopt=APT::Install-Recommends \"false\"")
                .arg(suite)
                .arg(&new)
                .arg(mirror()?),
        )?;
        let policy = new.join("usr/sbin/policy-rc.d");
        fs::write(&policy, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(&policy, fs::Permissions::from_mode(0o755))?;
        fs::rename(new, &root)?;
    }
    Ok(root)
}

/// The Debian mirror that this machine uses.
fn mirror() -> Result<String> {
    let uris = output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)", "Label: Debian"]))?;
    uris.lines().next().map(str::to_owned).context("apt has no list of Debian's packages: run apt-get update")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_plugins_of_its_own_has_ours() {
        let root = tempfile::tempdir().unwrap();
        let system = System { root: Some(root.path().to_owned()) };
        let library = root.path().join("libinstant_failover.so");
        fs::write(&library, "a library").unwrap();
        let filled = root.path().join("filled");
        system.fill(&filled, &library, Path::new("/usr/lib/mysql/plugin")).unwrap();
        let names = fs::read_dir(&filled).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["instant_failover.so"]);
    }
}
