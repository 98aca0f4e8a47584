'use strict';

// The servers of the tests: two of MariaDB with the plugin, stand-ins, and servers that misbehave.

const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const mysql = require('mysql2/promise');

const password = 'secret';

/** Starts both servers, with certificates for the name localhost. */
async function start() {
    for (const name of ['INSTANT_FAILOVER_SO', 'INSTANT_FAILOVER_STANDIN']) {
        if (!fs.existsSync(process.env[name] ?? '')) throw new Error(`${name} must be the path of the built file`);
    }
    const home = fs.mkdtempSync(path.join(os.tmpdir(), 'if-node-'));
    makeCertificates(home);
    const [db1, db2] = await Promise.all([startMariaDB(home, 'db1'), startMariaDB(home, 'db2')]);
    return {
        db1,
        db2,
        ca: fs.readFileSync(path.join(home, 'ca.pem')),
        stop: async () => {
            await Promise.all([db1.stop(), db2.stop()]);
            fs.rmSync(home, { recursive: true, force: true });
        },
    };
}

async function startMariaDB(home, name) {
    const directory = path.join(home, name);
    const [data, plugins, socket] = ['data', 'plugins', 's'].map((part) => path.join(directory, part));
    fs.mkdirSync(plugins, { recursive: true });
    fs.copyFileSync(process.env.INSTANT_FAILOVER_SO, path.join(plugins, 'instant_failover.so'));
    const install = ['--no-defaults', `--datadir=${data}`, '--auth-root-authentication-method=normal', '--skip-test-db'];
    execFileSync('mariadb-install-db', install, { stdio: 'pipe' });
    const port = await freePort();
    const options = [
        '--no-defaults',
        `--datadir=${data}`,
        `--socket=${socket}`,
        `--port=${port}`,
        '--bind-address=127.0.0.1',
        `--plugin-dir=${plugins}`,
        '--plugin-load-add=instant_failover',
        '--innodb-buffer-pool-size=32M',
        `--log-error=${path.join(directory, 'log')}`,
        `--ssl-cert=${path.join(home, 'server.pem')}`,
        `--ssl-key=${path.join(home, 'server.key')}`,
        ...(process.getuid() === 0 ? ['--user=root'] : []),
    ];
    const child = spawn('mariadbd', options, { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    const root = await eventually(() =>
        mysql.createConnection({ socketPath: socket, user: 'root', multipleStatements: true }),
    );
    await root.query(`
        CREATE USER app IDENTIFIED BY '${password}'; GRANT ALL ON *.* TO app;
        CREATE DATABASE demo; CREATE TABLE demo.t (id BIGINT)`);
    const server = {
        port,
        socket,
        root,
        address: (host) => `${host}:${port}`,
        /** Redirects to a target until the function that is returned is called. */
        redirect: async (target, mode = 'ON') => {
            await root.query(`SET GLOBAL instant_failover_target = '${target}', instant_failover_mode = ${mode}`);
            return server.off;
        },
        off: () => root.query('SET GLOBAL instant_failover_mode = OFF'),
        stop: () => {
            root.destroy();
            child.kill('SIGKILL');
            return ended;
        },
    };
    return server;
}

/** Starts a stand-in that redirects; `stop` ends it. */
async function standIn(target) {
    const port = await freePort();
    const options = ['--bind-address=127.0.0.1', `--port=${port}`, '--instant-failover-mode=ON'];
    const child = spawn(process.env.INSTANT_FAILOVER_STANDIN, [...options, `--instant-failover-target=${target}`], {
        stdio: 'ignore',
    });
    await eventually(
        () =>
            new Promise((resolve, reject) => {
                const socket = net.connect(port, '127.0.0.1', () => resolve(socket.destroy()));
                socket.once('error', reject);
            }),
    );
    return { port, stop: () => child.kill('SIGKILL') };
}

/**
 * A server that answers each connection by what is given for before and after the client's first packet; null for no answer.
 */
async function hostile(before, after) {
    const received = [];
    const sockets = new Set();
    const server = net.createServer((socket) => {
        sockets.add(socket);
        socket.on('close', () => sockets.delete(socket));
        socket.on('error', () => {});
        if (before) socket.write(before);
        socket.once('data', (data) => {
            received.push(data);
            if (after) socket.end(after);
        });
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address();
    const stop = () => {
        for (const socket of sockets) socket.destroy();
        server.close();
    };
    return { port, received, sockets, address: `127.0.0.1:${port}`, stop };
}

function packet(sequence, body) {
    return Buffer.concat([Buffer.from([body.length & 255, body.length >> 8, 0, sequence]), body]);
}

function refusal(sequence, code, message) {
    return packet(sequence, Buffer.from(`\xff${String.fromCharCode(code & 255, code >> 8)}#HY000${message}`, 'latin1'));
}

function greeting(withTLS) {
    const flags = `\x0f${withTLS ? '\xaa' : '\xa2'}\x2d\x02\x00\x08\x00\x15`;
    const text = `\x0a11.8.6-MariaDB\0\x07\0\0\0abcdefgh\0${flags}${'\0'.repeat(10)}ijklmnopqrst\0mysql_native_password\0`;
    return packet(0, Buffer.from(text, 'latin1'));
}

function makeCertificates(home) {
    const openssl = (...words) => execFileSync('openssl', words, { cwd: home, stdio: 'pipe' });
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=authority', '-days', '1');
    openssl('req', ...key, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=localhost');
    fs.writeFileSync(path.join(home, 'names'), 'subjectAltName=DNS:localhost\n');
    const sign = ['x509', '-req', '-in', 'server.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '1'];
    openssl(...sign, '-out', 'server.pem', '-extfile', 'names');
}

async function freePort() {
    const server = net.createServer();
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address();
    await new Promise((resolve) => server.close(resolve));
    return port;
}

/** Tries until it succeeds, for a minute at most. */
async function eventually(attempt, seconds = 60) {
    const end = Date.now() + seconds * 1000;
    for (;;) {
        try {
            return await attempt();
        } catch (error) {
            if (Date.now() > end) throw error;
            await new Promise((resolve) => setTimeout(resolve, 50));
        }
    }
}

/** How many descriptors the process has open. */
function descriptors() {
    return fs.readdirSync('/proc/self/fd').length;
}

module.exports = { descriptors, eventually, greeting, hostile, password, refusal, standIn, start };
