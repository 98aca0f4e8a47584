# DBD::MariaDB, which follows: Connector/C takes the URL in `host`. A colon ends a part of a DSN, so the URL stands in
# brackets.
use strict;
use warnings;
use DBI;

$| = 1;
while (<STDIN>) {
    my $names = eval {
        my $connection = DBI->connect(
            "DBI:MariaDB:database=$ENV{DB_NAME};host=[$ENV{DB_HOST}];port=$ENV{DB_PORT}",
            $ENV{DB_USER}, $ENV{DB_PASSWORD}, { RaiseError => 1, PrintError => 0 });
        my $query = 'SELECT name FROM this_server';
        my $prepared = $connection->prepare("$query WHERE 1 = ?", { mariadb_server_prepare => 1 });
        my @names = $connection->selectrow_array($query);
        $prepared->execute(1);
        push @names, $prepared->fetchrow_array();
        $prepared->finish();
        push @names, $connection->selectrow_array($query);
        $connection->disconnect();
        join ' ', @names;
    };
    print defined $names ? "ok $names\n" : 'error ' . ($DBI::err // 0) . ' ' . join(' ', split ' ', $@) . "\n";
}
