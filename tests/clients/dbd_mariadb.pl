# DBD::MariaDB, which follows: Connector/C takes the URL in `host`. A colon ends a part of a DSN, so the URL stands in
# brackets. A host without a prefix needs none.
use strict;
use warnings;
use DBI;

# The file of the authority is there for TLS, the condition for a server that prepares statements.
my ($authority, $query, $condition) = @ENV{qw(DB_AUTHORITY DB_QUERY DB_CONDITION)};
my $tls = $authority ? ";mariadb_ssl=1;mariadb_ssl_verify_server_cert=1;mariadb_ssl_ca_file=$authority" : '';

my $host = $ENV{DB_HOST} =~ m{://} ? "[$ENV{DB_HOST}]" : $ENV{DB_HOST};

$| = 1;
while (<STDIN>) {
    my $names = eval {
        my $connection = DBI->connect(
            "DBI:MariaDB:database=$ENV{DB_NAME};host=$host;port=$ENV{DB_PORT}$tls",
            $ENV{DB_USER}, $ENV{DB_PASSWORD}, { RaiseError => 1, PrintError => 0 });
        my @parameters = $condition ? 1 : ();
        # Where the server refuses to prepare, the driver does it itself.
        my $prepared = $connection->prepare(
            $condition ? "$query $condition" : $query, { mariadb_server_prepare => 1 });
        my @names = $connection->selectrow_array($query);
        $prepared->execute(@parameters);
        push @names, $prepared->fetchrow_array();
        $prepared->finish();
        push @names, $connection->selectrow_array($query);
        $connection->disconnect();
        join ' ', @names;
    };
    print defined $names ? "ok $names\n" : 'error ' . ($DBI::err // 0) . ' ' . join(' ', split ' ', $@) . "\n";
}
