//! `cargo xtask deb`: Debian packages and a tarball, and a test of them in a system of their own. What is in them is in
//! `packaging/`, and in the `[package.metadata.deb]` of each `Cargo.toml`.

mod earlier;
mod needs;

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use clap_complete::Shell;
use support::build::{self, Arch};
use support::{output, packages, project_root, run, system, target_dir};

use crate::Outcome;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Install, use, upgrade and remove them in root directories with Debian 12 and 13; for an architecture that must be emulated,
    /// with Debian 12
    #[arg(long)]
    test: bool,
    /// What they are for: amd64 or arm64
    #[arg(long, default_value_t = Arch::THIS)]
    arch: Arch,
}

impl Arguments {
    /// To build them.
    pub(crate) const fn build(arch: Arch) -> Self {
        Self { test: false, arch }
    }
}

/// The releases of Debian that they are tried on.
const SUITES: [&str; 2] = ["bookworm", "trixie"];
/// The same, where the architecture is emulated.
const SUITES_EMULATED: [&str; 1] = ["bookworm"];
/// What makes the packages.
const CARGO_DEB: &str = "3.8.0";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The crates with packages, and what each package is called.
const PLUGIN: [&str; 2] = ["instant-failover", "mariadb-plugin-instant-failover"];
const HARNESS: [&str; 2] = ["instant-failover-harness", "instant-failover-harness"];
const COMMAND: [&str; 2] = ["instant-failover-switchover", "instant-failover"];

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    if arguments.test {
        return test(arguments.arch)?.conclude("see above for what failed");
    }
    for file in Packages::build(arguments.arch)?.all() {
        println!("{}", file.display());
    }
    Ok(())
}

/// Builds everything, and tries it as a database administrator would.
pub(crate) fn test(arch: Arch) -> Result<Outcome> {
    if !packages::is_root() {
        println!("skipped: only root can install packages in a root directory");
        return Ok(Outcome { skipped: 1, ..Outcome::default() });
    }
    packages::install(&[packages::PACKAGES_TEST, packages::ROOTS])?;
    let packages = Packages::build(arch)?;
    let mut outcome = Outcome::default();
    for script in [
        "install.sh",
        "plugin/preinst",
        "plugin/postinst",
        "plugin/postrm",
        "rpm-requires",
        "test/packages.sh",
        "test/systemd.sh",
        "test/upgrade.sh",
        "test/rpm.sh",
        "test/rpm-systemd.sh",
        "galera-notify",
    ] {
        run(Command::new("shellcheck").current_dir(project_root()).arg("-x").arg(packaging().join(script)))?;
        outcome.passed += 1;
    }
    let maintainer = Maintainer::of_this_build()?.to_string();
    for file in [&packages.plugin, &packages.harness, &packages.command] {
        let field = output(Command::new("dpkg-deb").arg("--field").arg(file).arg("Maintainer"))?;
        outcome += Outcome::of(field.trim() == maintainer, format!("the maintainer is {field}, not {maintainer}"));
        outcome += needs_what_it_says(file, arch);
        let mut lintian = Command::new("lintian");
        lintian.args(["--allow-root", "--fail-on=error,warning"]);
        if std::env::var_os("DEBEMAIL").is_none() {
            // A test machine's user and host are no address that mail reaches.
            lintian.args(["--suppress-tags", "bogus-mail-host,bogus-mail-host-in-debian-changelog,root-in-contact"]);
        }
        let lintian = lintian.arg(file).output()?;
        let said = String::from_utf8_lossy(&lintian.stdout);
        outcome += Outcome::of(lintian.status.success(), format!("lintian: {}\n{said}", file.display()));
    }
    if arch == Arch::Amd64 {
        let upgrade = packages.upgrade();
        outcome += upgrade.unwrap_or_else(|error| Outcome::of(false, format!("upgrade: {error:#}")));
        outcome += packages.plugin_for_arm64()?;
    }
    if arch.foreign().is_some() {
        outcome += emulated_standin(arch)?;
    }
    for suite in if arch.foreign().is_some() { &SUITES_EMULATED[..] } else { &SUITES } {
        println!("Debian {suite}, {arch}:");
        outcome += packages.try_out(&system::installed(suite, arch)?)?.at(suite);
    }
    Ok(outcome)
}

/// Runs the tests of the stand-in with one that is emulated, but for the two that look into its memory: it is the emulator's.
fn emulated_standin(arch: Arch) -> Result<Outcome> {
    packages::install(&[packages::SERVER, packages::TEST, packages::ARM64_TEST])?;
    system::emulate_arm64()?;
    run(Command::new(env!("CARGO"))
        .current_dir(project_root())
        .args(["test", "--quiet", "--package=instant-failover", "--test=it", "--", "standalone"])
        .args(["--skip=memory_before_a_login_is_bounded", "--skip=redirects_allocate_nothing"])
        .env("INSTANT_FAILOVER_SO", build::library_for(Arch::THIS)?)
        .env("INSTANT_FAILOVER_HARNESS", build::harness_for(arch)?)
        // Where Debian's cross compiler has the libraries.
        .env("QEMU_LD_PREFIX", format!("/usr/{}-linux-gnu", arch.kernel())))?;
    Ok(Outcome::of(true, ""))
}

fn needs_what_it_says(file: &Path, arch: Arch) -> Outcome {
    match needs::check(file, arch) {
        Ok(()) => Outcome::of(true, ""),
        Err(error) => Outcome::of(false, format!("{}: {error:#}", file.display())),
    }
}

fn packaging() -> PathBuf {
    project_root().join("packaging")
}

/// What `cargo xtask deb` makes.
struct Packages {
    arch: Arch,
    directory: PathBuf,
    plugin: PathBuf,
    harness: PathBuf,
    command: PathBuf,
    tarball: PathBuf,
}

/// Who builds the packages, as Debian's tools have it.
#[derive(Debug, PartialEq, Eq)]
struct Maintainer {
    name: String,
    address: String,
}

impl Maintainer {
    fn of_this_build() -> Result<Self> {
        let user = output(Command::new("id").args(["--user", "--name"]))?;
        let host = output(Command::new("hostname").arg("--fqdn")).or_else(|_| output(&mut Command::new("hostname")))?;
        Self::new(|name| std::env::var(name).ok(), user.trim(), host.trim())
    }

    /// `DEBFULLNAME` and `DEBEMAIL`, which may hold both; else the user and the host.
    fn new(variable: impl Fn(&str) -> Option<String>, user: &str, host: &str) -> Result<Self> {
        let set = |name| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let email = set("DEBEMAIL").unwrap_or_else(|| format!("{user}@{host}"));
        let (before, address) = match email.strip_suffix('>').and_then(|email| email.split_once('<')) {
            Some((name, address)) => (Some(name.trim().to_owned()).filter(|name| !name.is_empty()), address.to_owned()),
            None => (None, email.clone()),
        };
        let name = set("DEBFULLNAME").or(before).unwrap_or_else(|| user.to_owned());
        if name.contains(['<', '>', '\n']) {
            bail!("DEBFULLNAME={name:?} is not a name");
        }
        if !address.contains('@') || address.contains(|c: char| c.is_whitespace() || "<>,".contains(c)) {
            bail!("DEBEMAIL={email:?} is not an e-mail address");
        }
        Ok(Self { name, address })
    }
}

impl fmt::Display for Maintainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <{}>", self.name, self.address)
    }
}

/// In a fresh mount and network namespace: makes `/mnt/root` a copy of the root directory `$1` that is gone afterwards, and
/// shows it the directory `$2` as its `/mnt`.
const COPY: &str = r#"
set -e
root=$1; packages=$2; shift 2
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
mount --bind "$packages" /mnt/root/mnt
ip link set lo up
"#;

/// After that: runs a program there.
const RUN: &str = r#"
mount -t proc proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
exec chroot /mnt/root "$@"
"#;

/// After that: starts systemd there, as the first process of a system whose only service is the program; what that prints
/// is printed. There is a group of processes for it, which is removed at the end.
const BOOT: &str = r#"
cat > /mnt/root/etc/systemd/system/test.service <<UNIT
[Unit]
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
ExecStart=$@
StandardOutput=file:/said
StandardError=inherit
UNIT
mkdir /mnt/groups
mount -t cgroup2 cgroup2 /mnt/groups
group=/mnt/groups/instant_failover_test
mkdir -p $group
sh -ec 'echo 0 > $1/cgroup.procs; shift; exec "$@"' sh $group timeout --kill-after=1 120 \
    unshare --cgroup --mount --pid --uts --ipc --fork --kill-child --mount-proc=/mnt/root/proc sh -ec '
        cd /mnt/root
        mount -t sysfs -o ro sysfs sys
        mount -t cgroup2 cgroup2 sys/fs/cgroup
        mount -t tmpfs -o mode=755 tmpfs dev
        mkdir dev/pts
        mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
        ln -s pts/ptmx dev/ptmx
        for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
        pivot_root . media
        umount -l media
        exec env --ignore-environment container=other /lib/systemd/systemd --unit=test.service
    ' >/mnt/console 2>&1 || true
find $group -depth -type d -exec rmdir {} + || true
[ -s /mnt/root/said ] || { cat /mnt/console >&2; exit 1; }
cat /mnt/root/said
grep -q -e 'systemd: the server stops$' -e '^skipped' /mnt/root/said || echo 'FAILED   systemd: does not come to its end'
"#;

impl Packages {
    fn build(arch: Arch) -> Result<Self> {
        packages::install(&[packages::BUILD, packages::PACKAGES])?;
        let changelog = fs::read_to_string(packaging().join("changelog"))?;
        if !changelog.starts_with(&format!("instant-failover ({VERSION}-1) ")) {
            bail!("packaging/changelog does not begin with version {VERSION}-1");
        }
        let maintainer = Maintainer::of_this_build()?;
        // Where each Cargo.toml looks for it.
        let signed = project_root().join("target/debian/changelog");
        fs::create_dir_all(signed.parent().context("a file has a directory")?)?;
        fs::write(&signed, changelog.replace("@MAINTAINER@", &maintainer.to_string()))?;
        let (library, harness, command) =
            (build::library_for(arch)?, build::harness_for(arch)?, build::command_for(arch)?);
        let completions = completions()?;
        let directory = target_dir().join("debian");
        fs::create_dir_all(&directory)?;
        let deb = |name| directory.join(deb_name(name, arch));
        let packages = Self {
            arch,
            plugin: deb(PLUGIN[1]),
            harness: deb(HARNESS[1]),
            command: deb(COMMAND[1]),
            tarball: directory.join(format!("{}.tar.gz", tarball_name(arch))),
            directory,
        };
        let cargo_deb = packager("cargo-deb", CARGO_DEB)?;
        for (crate_name, built, file) in [
            (PLUGIN[0], &library, &packages.plugin),
            (HARNESS[0], &harness, &packages.harness),
            (COMMAND[0], &command, &packages.command),
        ] {
            package(&cargo_deb, crate_name, &maintainer, arch, &built_in(built, arch), file)?;
        }
        tarball([&library, &harness, &command], &completions, &tarball_name(arch), &packages.tarball)?;
        Ok(packages)
    }

    fn all(&self) -> [&Path; 4] {
        [&self.plugin, &self.harness, &self.command, &self.tarball]
    }

    /// Makes the plugin's package for 64-bit ARM, too. (To build all of them takes minutes: `--arch arm64`.)
    fn plugin_for_arm64(&self) -> Result<Outcome> {
        let arch = Arch::Arm64;
        let library = build::library_for(arch)?;
        let file = self.directory.join(deb_name(PLUGIN[1], arch));
        let cargo_deb = packager("cargo-deb", CARGO_DEB)?;
        package(&cargo_deb, PLUGIN[0], &Maintainer::of_this_build()?, arch, &built_in(&library, arch), &file)?;
        Ok(needs_what_it_says(&file, arch))
    }

    /// Upgrades a server from an earlier layout of the plugin, and back.
    fn upgrade(&self) -> Result<Outcome> {
        println!("From an earlier layout, and back:");
        if !earlier::build(&self.directory.join("earlier.deb"))? {
            println!("skipped  upgrade: git does not have the commit that the earlier package is built from");
            return Ok(Outcome { skipped: 1, ..Outcome::default() });
        }
        Ok(try_in_copy(&system::installed(SUITES[0], self.arch)?, self.arch, &self.directory, "upgrade.sh")?
            .at("upgrade"))
    }

    /// Runs the tests of `packaging/test/` in a copy of that root directory, and counts what they say.
    fn try_out(&self, root: &Path) -> Result<Outcome> {
        let mut outcome = try_in_copy(root, self.arch, &self.directory, "packages.sh")?;
        if self.arch.foreign().is_some() {
            println!("skipped  systemd: it cannot be emulated");
            outcome.skipped += 1;
            return Ok(outcome);
        }
        outcome += try_under_systemd(root, self.arch, &self.directory, "systemd.sh")?;
        Ok(outcome)
    }
}

/// Runs a test of `packaging/test/` as [`try_in_copy`] does, but as a service of a separate systemd.
pub(crate) fn try_under_systemd(root: &Path, arch: Arch, directory: &Path, script: &str) -> Result<Outcome> {
    let said = in_copy(root, arch, directory, BOOT, script)?;
    let mut outcome = count(&said);
    if !said.status.success() {
        println!("skipped  systemd: it does not start here\n{}", String::from_utf8_lossy(&said.stderr));
        outcome.skipped += 1;
    }
    Ok(outcome)
}

/// Runs a test of `packaging/test/` in a copy of that root directory, with the packages of `directory`, and counts what it says.
pub(crate) fn try_in_copy(root: &Path, arch: Arch, directory: &Path, script: &str) -> Result<Outcome> {
    let said = in_copy(root, arch, directory, RUN, script)?;
    let mut outcome = count(&said);
    if !said.status.success() {
        outcome.failed.push(format!("{script}: {}\n{}", said.status, String::from_utf8_lossy(&said.stderr)));
    }
    Ok(outcome)
}

fn in_copy(root: &Path, arch: Arch, directory: &Path, how: &str, script: &str) -> Result<Output> {
    let seconds = if arch.foreign().is_some() { "1800" } else { "300" };
    for script in ["common.sh", script] {
        fs::copy(packaging().join("test").join(script), directory.join(script))?;
    }
    Command::new("timeout")
        .args(["--kill-after=1", seconds, "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"])
        .args(["sh", "-c", &[COPY, how].concat(), "sh"])
        .arg(root)
        .arg(directory)
        .args(["/usr/bin/env", "--chdir=/", "--ignore-environment", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"])
        .args(["DEBIAN_FRONTEND=noninteractive", "sh"])
        .arg(Path::new("/mnt").join(script))
        .args(["/mnt", VERSION])
        .stdin(Stdio::null())
        .output()
        .context(script.to_owned())
}

/// Shows what a test has said.
fn count(said: &Output) -> Outcome {
    let text = String::from_utf8_lossy(&said.stdout);
    print!("{text}");
    let count = |word| text.lines().filter(|line| line.starts_with(word)).count();
    let failed = text.lines().filter_map(|line| line.strip_prefix("FAILED ")).map(|line| line.trim().to_owned());
    Outcome { passed: count("passed "), failed: failed.collect(), skipped: count("skipped ") }
}

/// Installs a command of cargo that makes packages, and returns where it is.
pub(crate) fn packager(name: &str, version: &str) -> Result<PathBuf> {
    let tools = target_dir().join("tools");
    let packager = tools.join("bin").join(name);
    let installed = Command::new(&packager).arg("--version").output();
    if !installed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim().ends_with(version)) {
        eprintln!("Installing {name} {version} ...");
        let package = format!("{name}@{version}");
        // Quick to build rather than to run: it packs a few files.
        output(
            Command::new(env!("CARGO")).args(["install", "--debug", "--locked", "--root"]).arg(&tools).arg(package),
        )?;
    }
    Ok(packager)
}

/// The target directory in which cargo has built a program or a library for that architecture.
pub(crate) fn built_in(program: &Path, arch: Arch) -> PathBuf {
    let above = if arch.foreign().is_some() { 3 } else { 2 };
    program.ancestors().nth(above).map_or_else(target_dir, Path::to_path_buf)
}

/// Makes a package of a crate that is built in that target directory. What differs between architectures is a variant of it in
/// `Cargo.toml`.
fn package(cargo_deb: &Path, name: &str, maintainer: &Maintainer, arch: Arch, built: &Path, file: &Path) -> Result<()> {
    let mut command = Command::new(cargo_deb);
    command
        .current_dir(project_root())
        .args(["deb", "--no-build", "--package", name, "--maintainer", &maintainer.to_string()])
        .args(["--variant", arch.debian()])
        .args(arch.foreign().map(|target| format!("--target={target}")))
        .arg("--output")
        .arg(file)
        .env("CARGO_TARGET_DIR", built);
    output(&mut command).map(drop)
}

/// Writes the command's completions where its Cargo.toml looks for them, and returns the directory.
pub(crate) fn completions() -> Result<PathBuf> {
    let directory = project_root().join("target/debian/completions");
    fs::create_dir_all(&directory)?;
    let mut line = switchover::command::command_line();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut line, COMMAND[1], &directory)?;
    }
    Ok(directory)
}

fn deb_name(package: &str, arch: Arch) -> String {
    format!("{package}_{VERSION}-1_{arch}.deb")
}

fn tarball_name(arch: Arch) -> String {
    format!("instant-failover-{VERSION}-linux-{}", arch.kernel())
}

/// What there is for systems without Debian's packages; `install.sh` knows where each file goes.
fn tarball([library, harness, command]: [&Path; 3], completions: &Path, name: &str, file: &Path) -> Result<()> {
    let staged = tempfile::tempdir()?;
    let top = staged.path().join(name);
    let (root, packaging) = (project_root(), packaging());
    for (source, destination, mode) in [
        (library.to_path_buf(), "lib/instant_failover.so", 0o644),
        (harness.to_path_buf(), "bin/instant-failover-harness", 0o755),
        (packaging.join("instant-failover-harness.cnf"), "etc/instant-failover-harness.cnf", 0o644),
        (packaging.join("instant-failover-harness.service"), "systemd/instant-failover-harness.service", 0o644),
        (packaging.join("instant-failover-harness.socket"), "systemd/instant-failover-harness.socket", 0o644),
        (packaging.join("instant-failover-harness.8"), "man/instant-failover-harness.8", 0o644),
        (command.to_path_buf(), "bin/instant-failover", 0o755),
        (packaging.join("instant-failover.1"), "man/instant-failover.1", 0o644),
        (completions.join("instant-failover.bash"), "completions/instant-failover.bash", 0o644),
        (completions.join("_instant-failover"), "completions/_instant-failover", 0o644),
        (completions.join("instant-failover.fish"), "completions/instant-failover.fish", 0o644),
        (packaging.join("install.sh"), "install.sh", 0o755),
    ] {
        let destination = top.join(destination);
        fs::create_dir_all(destination.parent().context("a file has a directory")?)?;
        fs::copy(&source, &destination).with_context(|| format!("{} cannot be copied", source.display()))?;
        fs::set_permissions(&destination, fs::Permissions::from_mode(mode))?;
    }
    // The documents as they lie here, for their links. Of the packages for applications, only how to use them: what they build lies
    // beside them.
    let documents = top.join("doc");
    fs::create_dir_all(&documents)?;
    let mut readmes = vec![PathBuf::from("clients/README.md")];
    for entry in fs::read_dir(root.join("clients"))? {
        let readme = Path::new("clients").join(entry?.file_name()).join("README.md");
        readmes.extend(root.join(&readme).exists().then_some(readme));
    }
    output(
        Command::new("cp")
            .current_dir(&root)
            .args(["--recursive", "--parents", "--target-directory"])
            .arg(&documents)
            .args(["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "SECURITY.md", "docs"])
            .args(readmes),
    )?;
    let share = top.join("share");
    fs::create_dir(&share)?;
    output(Command::new("cp").current_dir(&packaging).args(["--recursive", "--target-directory"]).arg(share).args([
        "instant_failover.cnf",
        "follow-redirects.conf",
        "galera-notify",
        "servers.cnf",
        "monitoring",
    ]))?;
    output(
        Command::new("tar")
            .args(["--create", "--gzip", "--sort=name", "--owner=root:0", "--group=root:0", "--directory"])
            .arg(staged.path())
            .arg("--file")
            .arg(file)
            .arg(name),
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::Maintainer;

    fn maintainer(variables: &[(&str, &str)]) -> Option<String> {
        let value = |name: &str| variables.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
        Maintainer::new(value, "builder", "host.local").ok().map(|maintainer| maintainer.to_string())
    }

    #[test]
    fn the_maintainer_is_who_builds_the_packages() {
        for (variables, expected) in [
            (&[][..], "builder <builder@host.local>"),
            (&[("DEBFULLNAME", ""), ("DEBEMAIL", " ")], "builder <builder@host.local>"),
            (&[("DEBEMAIL", "jo@debian.invalid")], "builder <jo@debian.invalid>"),
            (&[("DEBFULLNAME", "Jo Doe"), ("DEBEMAIL", "jo@debian.invalid")], "Jo Doe <jo@debian.invalid>"),
            (&[("DEBEMAIL", "Jo Doe <jo@debian.invalid>")], "Jo Doe <jo@debian.invalid>"),
            (&[("DEBFULLNAME", "J. Doe"), ("DEBEMAIL", "Jo <jo@debian.invalid>")], "J. Doe <jo@debian.invalid>"),
        ] {
            assert_eq!(maintainer(variables).as_deref(), Some(expected), "{variables:?}");
        }
        for wrong in [&[("DEBEMAIL", "jo")][..], &[("DEBEMAIL", "jo@a b")], &[("DEBFULLNAME", "Jo <jo@x>")]] {
            assert_eq!(maintainer(wrong), None, "{wrong:?}");
        }
    }
}
