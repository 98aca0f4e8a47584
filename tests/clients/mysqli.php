<?php
// mysqli on mysqlnd, PHP's own client, which does not follow.

function connect(): string
{
    $connection = mysqli_init();
    $authority = getenv('DB_AUTHORITY');
    if ($authority) {
        $connection->ssl_set(null, null, $authority, null, null);
    }
    $connection->real_connect(
        getenv('DB_HOST'), getenv('DB_USER'), getenv('DB_PASSWORD'), getenv('DB_NAME'), (int) getenv('DB_PORT'),
        null, $authority ? MYSQLI_CLIENT_SSL : 0);
    $query = getenv('DB_QUERY');
    $condition = getenv('DB_CONDITION');
    $names = [$connection->query($query)->fetch_row()[0]];
    $middle = $condition ? $connection->execute_query("$query $condition", [1]) : $connection->query($query);
    $names[] = $middle->fetch_row()[0];
    $names[] = $connection->query($query)->fetch_row()[0];
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
