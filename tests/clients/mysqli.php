<?php
// mysqli on mysqlnd, PHP's own client, which does not follow.

const QUERY = 'SELECT name FROM this_server';

function connect(): string
{
    $connection = new mysqli(
        getenv('DB_HOST'), getenv('DB_USER'), getenv('DB_PASSWORD'), getenv('DB_NAME'), (int) getenv('DB_PORT'));
    $names = [$connection->query(QUERY)->fetch_row()[0]];
    $prepared = $connection->prepare(QUERY . ' WHERE 1 = ?');
    $prepared->execute([1]);
    $names[] = $prepared->get_result()->fetch_row()[0];
    $names[] = $connection->query(QUERY)->fetch_row()[0];
    $connection->close();
    return implode(' ', $names);
}

mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
while (fgets(STDIN) !== false) {
    try {
        $names = connect();
        echo "ok $names\n";
    } catch (mysqli_sql_exception $error) {
        echo 'error ', $error->getCode(), ' ', $error->getMessage(), "\n";
    }
}
