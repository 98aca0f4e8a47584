<?php
/*
 * The subcommands "land" and "load" of the conformance adapter.
 *
 * land answers JSON lines: connect, query and close by mysqli; pool and pool_query by PDO's persistent connections.
 * load JSON runs transactions in several processes, each with a persistent connection of PDO.
 */
declare(strict_types=1);

mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
// mysqlnd warns of what it then throws.
error_reporting(E_ALL & ~E_WARNING);

/* The host of a request. mysqlnd takes one; of a list, it gets them all. */
function host(array $server): string
{
    return isset($server['hosts']) ? implode(',', $server['hosts']) : $server['host'];
}

function prepare(array $server): void
{
    if (isset($server['follow'])) {
        ini_set('instant_failover.follow', $server['follow']);
    } else {
        ini_restore('instant_failover.follow');
    }
    // The connect timeout ends with the TCP connection.
    ini_set('mysqlnd.net_read_timeout', (string) ($server['timeout'] ?? 30));
}

function connect(array $server): mysqli
{
    prepare($server);
    $mysqli = mysqli_init();
    $mysqli->options(MYSQLI_OPT_CONNECT_TIMEOUT, (int) ($server['timeout'] ?? 10));
    $flags = 0;
    if ($server['tls'] !== 'off') {
        $flags = MYSQLI_CLIENT_SSL | ($server['tls'] === 'verify' ? MYSQLI_CLIENT_SSL_VERIFY_SERVER_CERT : MYSQLI_CLIENT_SSL_DONT_VERIFY_SERVER_CERT);
        $mysqli->ssl_set(null, null, $server['ca'] ?? null, null, null);
    }
    $mysqli->real_connect(host($server), $server['user'], $server['password'], $server['database'] ?? '', $server['port'], null, $flags);
    return $mysqli;
}

/* Takes a connection from PHP's pool, which pings it, or opens one. Without a reference it goes back. */
function take(array $server, int $number = 0): PDO
{
    prepare($server);
    // PDO has a connection for each set of arguments; the key tells those of a pool apart.
    $options = [PDO::ATTR_PERSISTENT => ($server['id'] ?? 'load') . "-$number", PDO::ATTR_TIMEOUT => (int) ($server['timeout'] ?? 10)];
    if ($server['tls'] !== 'off') {
        $options[PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT] = $server['tls'] === 'verify';
        // Without a CA, PDO uses TLS only if it is given another of its options.
        isset($server['ca']) ? $options[PDO::MYSQL_ATTR_SSL_CA] = $server['ca'] : $options[PDO::MYSQL_ATTR_SSL_CIPHER] = 'DEFAULT';
    }
    $database = isset($server['database']) ? ";dbname={$server['database']}" : '';
    return new PDO("mysql:host=" . host($server) . ";port={$server['port']}$database", $server['user'], $server['password'], $options);
}

function code(Throwable $error): int
{
    return (int) ($error instanceof PDOException ? $error->errorInfo[1] ?? 0 : $error->getCode());
}

function land(): void
{
    $connections = $pools = $turns = [];
    while (($line = fgets(STDIN)) !== false) {
        $request = json_decode($line, true, flags: JSON_THROW_ON_ERROR);
        $id = $request['id'];
        try {
            $ok = null;
            switch ($request['op']) {
                case 'connect':
                    $connections[$id] = connect($request);
                    break;
                case 'query':
                    $result = ($connections[$id] ?? throw new RuntimeException("no connection $id"))->query($request['sql']);
                    $ok = $result instanceof mysqli_result ? $result->fetch_row()[0] ?? null : null;
                    break;
                case 'pool':
                    $pools[$id] = $request;
                    $turns[$id] = 0;
                    break;
                case 'pool_query':
                    $pool = $pools[$id] ?? throw new RuntimeException("no pool $id");
                    $result = take($pool, $turns[$id]++ % ($pool['size'] ?? 4))->query($request['sql']);
                    $ok = $result->columnCount() ? $result->fetchColumn() : null;
                    $ok = $ok === false ? null : $ok;
                    $result = null;
                    break;
                case 'close':
                    if (isset($connections[$id])) {
                        $connections[$id]->close();
                    }
                    unset($connections[$id], $pools[$id]);
                    break;
                default:
                    throw new RuntimeException("unknown op {$request['op']}");
            }
            $answer = ['ok' => $ok === null ? null : (string) $ok];
        } catch (Exception $error) {
            $answer = ['error' => ['code' => code($error), 'message' => $error->getMessage()]];
        }
        fwrite(STDOUT, json_encode($answer, JSON_THROW_ON_ERROR | JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_SLASHES) . "\n");
        fflush(STDOUT);
    }
}

function work(array $load, int $worker): array
{
    $count = ['acknowledged' => 0, 'errors_in_transaction' => 0, 'errors_outside' => 0, 'unknown' => 0, 'longest_pause_ms' => 0, 'first_errors' => []];
    $file = fopen($load['file'], 'a');
    $last = microtime(true);
    $end = $last + $load['seconds'];
    for ($k = 0; microtime(true) < $end;) {
        $in_transaction = $committing = false;
        $pdo = null;
        try {
            $pdo = take($load, $worker);
            $pdo->query('SELECT COUNT(*) FROM orders WHERE id = 0')->fetchColumn();
            $pdo->exec('BEGIN');
            $in_transaction = true;
            $id = $worker * 1000000000 + ++$k;
            $pdo->exec("INSERT INTO orders(id) VALUES($id)");
            $pdo->exec("INSERT INTO `lines`(id) VALUES($id)");
            $committing = true;
            $pdo->exec('COMMIT');
            $in_transaction = $committing = false;
            fwrite($file, "$id\n");
            $count['acknowledged']++;
            $now = microtime(true);
            $count['longest_pause_ms'] = max($count['longest_pause_ms'], (int) round(($now - $last) * 1000));
            $last = $now;
            $pdo->query('SELECT 1')->fetchColumn();
        } catch (PDOException $error) {
            $count[$in_transaction ? 'errors_in_transaction' : 'errors_outside']++;
            // The connection is gone, so there was no answer.
            $count['unknown'] += (int) ($committing && in_array(code($error), [0, 2006, 2013], true));
            if (count($count['first_errors']) < 5) {
                $count['first_errors'][] = $error->getMessage();
            }
            try {
                $pdo?->exec('ROLLBACK');
            } catch (PDOException) {
                // PDO finds it dead when it is taken again.
            }
            usleep(10000);
        }
    }
    return $count;
}

function load(array $load): void
{
    $children = [];
    for ($worker = 1; $worker <= $load['workers']; $worker++) {
        [$ours, $theirs] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        $pid = pcntl_fork();
        if ($pid === 0) {
            fclose($ours);
            fwrite($theirs, json_encode(work($load, $worker), JSON_INVALID_UTF8_SUBSTITUTE));
            exit(0);
        }
        fclose($theirs);
        $children[$pid] = $ours;
    }
    $sum = [];
    foreach ($children as $pid => $pipe) {
        $count = json_decode(stream_get_contents($pipe), true, flags: JSON_THROW_ON_ERROR);
        pcntl_waitpid($pid, $status);
        foreach ($count as $name => $value) {
            $sum[$name] = match ($name) {
                'first_errors' => array_slice(array_merge($sum[$name] ?? [], $value), 0, 5),
                'longest_pause_ms' => max($sum[$name] ?? 0, $value),
                default => ($sum[$name] ?? 0) + $value,
            };
        }
    }
    echo json_encode($sum, JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE), "\n";
}

match ($argv[1] ?? '') {
    'land' => land(),
    'load' => load(json_decode($argv[2], true, flags: JSON_THROW_ON_ERROR)),
    default => exit("usage: run.sh parse | land | load JSON\n"),
};
