//! MariaDB's own programs, which do not follow redirects as applications do.

use std::fmt;

/// A program on Connector/C whose connections follow redirects because of its environment, not because of the host that they
/// were given.
///
/// Such an environment is often one of a whole machine or container. There a person who types
/// `mariadb-admin -h db1 shutdown` means db1, whatever db1 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// It follows.
    Application,
    /// A program of MariaDB's, which follows if `INSTANT_FAILOVER_FOLLOW` is set, too.
    MariaDb(&'static str),
    /// One that is about the very server that it is given, and never follows.
    Administers(&'static str),
}

/// Programs that MariaDB brings along, by the names under which they log in: those from before 10.5, and those since.
const MARIADB: &[&str] = &[
    "mariadb",
    "mariadb-dump",
    "mariadb-import",
    "mariadb-show",
    "mariadb-slap",
    "mariadb-test",
    "mysql",
    "mysqldump",
    "mysqlimport",
    "mysqlshow",
    "mysqlslap",
    "mysqltest",
];

/// Programs that administer a server, or copy its binary log.
const ADMINISTERS: &[&str] = &[
    "mariadb-admin",
    "mariadb-binlog",
    "mariadb-check",
    "mariadb-upgrade",
    "mysql_upgrade",
    "mysqladmin",
    "mysqlbinlog",
    "mysqlcheck",
];

impl Program {
    /// The program with this connect attribute `program_name`: a name or a path. Without one it is an application.
    #[must_use]
    pub fn of(name: Option<&str>) -> Self {
        let name = name.map_or("", |path| path.rsplit('/').next().unwrap_or_default());
        let known = |names: &[&'static str]| names.iter().copied().find(|known| *known == name);
        match (known(MARIADB), known(ADMINISTERS)) {
            (_, Some(name)) => Self::Administers(name),
            (Some(name), None) => Self::MariaDb(name),
            (None, None) => Self::Application,
        }
    }

    /// Why it does not follow; `None` if it does. `is_asked`: `INSTANT_FAILOVER_FOLLOW` has a value.
    #[must_use]
    pub const fn objection(self, is_asked: bool) -> Option<ProgramRule> {
        match self {
            Self::Application => None,
            Self::MariaDb(_) if is_asked => None,
            Self::MariaDb(_) | Self::Administers(_) => Some(ProgramRule(self)),
        }
    }
}

/// Why a program does not follow. Its text comes after the server's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramRule(Program);

impl fmt::Display for ProgramRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Program::Application => Ok(()),
            Program::MariaDb(name) => {
                write!(
                    f,
                    "{name} needs INSTANT_FAILOVER_FOLLOW=auto, too, or a host that begins with instant_failover://"
                )
            }
            Program::Administers(name) => {
                write!(f, "{name} works only on the server that it is given; to follow, use instant_failover://")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ADMINISTERS, MARIADB, Program};

    #[test]
    fn applications_follow() {
        for name in [None, Some(""), Some("app"), Some("/usr/bin/app"), Some("mysql2"), Some("MYSQL"), Some("mysql/")] {
            assert_eq!(Program::of(name), Program::Application, "{name:?}");
            assert_eq!(Program::of(name).objection(false), None);
        }
    }

    #[test]
    fn programs_of_mariadb_follow_if_asked_to() {
        assert_eq!(Program::of(Some("mysql")), Program::MariaDb("mysql"));
        assert_eq!(Program::of(Some("/usr/bin/mariadb-dump")), Program::MariaDb("mariadb-dump"));
        for name in MARIADB {
            let program = Program::of(Some(name));
            assert_eq!(program.objection(true), None);
            let said = program.objection(false).unwrap().to_string();
            assert!(said.starts_with(&format!("{name} needs INSTANT_FAILOVER_FOLLOW=auto, too, ")), "{said}");
        }
    }

    #[test]
    fn programs_that_administer_never_do() {
        for name in ADMINISTERS {
            for is_asked in [false, true] {
                let said = Program::of(Some(name)).objection(is_asked).unwrap().to_string();
                assert!(said.starts_with(&format!("{name} works only on the server ")), "{said}");
            }
        }
    }
}
