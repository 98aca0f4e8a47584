//! From beginning to end.

use super::application::{Application, Procedures};
use super::pair::{DB1, DB2, Pair};

#[test]
fn there_and_back_again() {
    for threads in ["one-thread-per-connection", "pool-of-threads"] {
        let pair = Pair::start(&[&format!("--thread-handling={threads}")]);
        let application = Application::start(&pair, Procedures::Yes);
        application.writes(200);
        let checked = pair.run(&["check", "db1", "db2"]);
        assert_eq!(checked.status, Some(0), "{}", checked.text);
        application.errors();
        let switched = pair.run(&["switchover", "db1", "db2", "--yes"]);
        println!("{}", switched.text);
        assert_eq!(switched.status, Some(0), "{}", switched.text);
        application.writes(200);
        let errors = application.errors();
        println!("{threads}: {} errors: {errors:#?}", errors.len());
        pair.is_switched();
        application.nothing_is_lost(&pair, DB2);

        let back = pair.run(&["switchover", "db2", "db1", "--yes"]);
        assert_eq!(back.status, Some(0), "{}", back.text);
        application.writes(200);
        println!("{threads}: {} errors", application.errors().len());
        application.nothing_is_lost(&pair, DB1);
        application.end();
        let status = pair.run(&["status"]);
        assert_eq!(status.status, Some(0), "{}", status.text);
    }
}
