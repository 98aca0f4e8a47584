<?php
/*
 * Servers that misbehave, all in one process: hostile.php PORT FILE
 *
 * PORT + 10   an error in the place of the greeting
 * PORT + 11   offers TLS, and answers a request for it with an error in plaintext
 * PORT + 12   answers a login with what the user name says: "say:MESSAGE", "huge:NUMBER", "raw:HEX"
 * PORT + 13   accepts, and never says anything
 * PORT + 14   offers no TLS, and writes all that it receives to FILE
 * PORT + 15   a greeting that is cut
 * PORT + 16   refuses every login, with a message that names nobody
 * PORT + 20 to 29   redirect to the next port, the last one to PORT + 1
 * PORT + 30, 31     redirect to each other
 */
[, $base, $file] = $argv;
$base = (int) $base;

function packet(int $number, string $body): string
{
    return substr(pack('V', strlen($body)), 0, 3) . chr($number) . $body;
}

function error(string $message, int $code = 4196): string
{
    return "\xff" . pack('v', $code) . '#HY000' . $message;
}

function redirect(int $port): string
{
    return error("|Go there.|127.0.0.1:$port");
}

function greeting(bool $tls): string
{
    $capabilities = 0x81bff7df & ~0x800 & ~0x100000 | ($tls ? 0x800 : 0);
    return "\x0a11.8.9-MariaDB\0" . pack('V', 7) . "abcdefgh\0" . pack('vCvvC', $capabilities & 0xffff, 45, 2, $capabilities >> 16, 21)
        . str_repeat("\0", 10) . "ijklmnopqrst\0mysql_native_password\0";
}

function said(string $user, int $base): string
{
    [$verb, $rest] = explode(':', $user, 2) + [1 => ''];
    return match ($verb) {
        'say' => error($rest),
        'huge' => error('|x|' . str_repeat('x', (int) $rest) . '|127.0.0.1:' . ($base + 1)),
        'raw' => hex2bin($rest),
        default => error('Access denied', 1045),
    };
}

$listeners = [];
foreach ([10, 11, 12, 13, 14, 15, 16, ...range(20, 31)] as $offset) {
    $listeners[$offset] = stream_socket_server('tcp://127.0.0.1:' . ($base + $offset)) ?: exit(1);
}
$clients = $kinds = [];
while (true) {
    $readable = array_merge($listeners, $clients);
    $none = null;
    stream_select($readable, $none, $none, null);
    foreach ($readable as $socket) {
        $offset = array_search($socket, $listeners, true);
        if ($offset !== false) {
            $client = stream_socket_accept($socket);
            $clients[(int) $client] = $client;
            $kinds[(int) $client] = $offset;
            match ($offset) {
                10 => fwrite($client, packet(0, redirect($base + 1))),
                13 => null,
                15 => fwrite($client, packet(0, substr(greeting(false), 0, 20))),
                default => fwrite($client, packet(0, greeting($offset === 11))),
            };
            if ($offset === 10 || $offset === 15) {
                unset($clients[(int) $client]);
                fclose($client);
            }
            continue;
        }
        $received = fread($socket, 65536);
        $offset = $kinds[(int) $socket];
        if ($offset === 13 && $received !== '') {
            continue;
        }
        if ($offset === 14) {
            file_put_contents($file, $received, FILE_APPEND);
        } elseif ($received !== '') {
            $user = strstr(substr($received, 36), "\0", true);
            @fwrite($socket, packet(ord($received[3]) + 1, match (true) {
                $offset === 11 => redirect($base + 1),
                $offset === 12 => said((string) $user, $base),
                $offset === 16 => error('No', 1045),
                $offset === 29 => redirect($base + 1),
                $offset === 31 => redirect($base + 30),
                default => redirect($base + $offset + 1),
            }));
        }
        unset($clients[(int) $socket]);
        fclose($socket);
    }
}
