//! Makes connections, and says where they land.

use std::collections::HashMap;
use std::io::{BufRead, Write, stdin, stdout};

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::driver::{Driver, Failure, Options, Outcome, Pool, Session};

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Request {
    Connect {
        id: String,
        #[serde(flatten)]
        options: Options,
    },
    Query {
        id: String,
        sql: String,
    },
    Close {
        id: String,
    },
    Pool {
        id: String,
        #[serde(flatten)]
        options: Options,
    },
    PoolQuery {
        id: String,
        sql: String,
    },
}

/// Lines of JSON, each answered with one.
pub(crate) fn run(driver: &dyn Driver) -> Result<()> {
    let (mut sessions, mut pools) = (HashMap::new(), HashMap::new());
    let mut output = stdout().lock();
    for line in stdin().lock().lines() {
        let request = serde_json::from_str(&line?)?;
        let answer = match answer(driver, request, &mut sessions, &mut pools) {
            Ok(value) => json!({ "ok": value }),
            Err(Failure { code, message }) => json!({ "error": { "code": code, "message": message } }),
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn answer(
    driver: &dyn Driver,
    request: Request,
    sessions: &mut HashMap<String, Box<dyn Session>>,
    pools: &mut HashMap<String, Box<dyn Pool>>,
) -> Outcome<Value> {
    let unknown = |id: &str| Failure { code: 0, message: format!("there is no '{id}'") };
    match request {
        Request::Connect { id, options } => {
            sessions.insert(id, driver.connect(&options)?);
            Ok(Value::Null)
        }
        Request::Query { id, sql } => Ok(sessions.get_mut(&id).ok_or_else(|| unknown(&id))?.query(&sql)?.into()),
        Request::Close { id } => {
            if sessions.remove(&id).is_none() && pools.remove(&id).is_none() {
                return Err(unknown(&id));
            }
            Ok(Value::Null)
        }
        Request::Pool { id, options } => {
            pools.insert(id, driver.pool(&options)?);
            Ok(Value::Null)
        }
        Request::PoolQuery { id, sql } => Ok(pools.get(&id).ok_or_else(|| unknown(&id))?.get()?.query(&sql)?.into()),
    }
}
