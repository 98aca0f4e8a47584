'use strict';

// The adapter of the project's conformance tests: parse, land and load, by the package that is tested. An argument before them,
// mysql2 or mariadb, chooses the driver.

const fs = require('node:fs');
const readline = require('node:readline');
const { Follow, Stop } = require('../lib/redirect.js');

const words = process.argv.slice(2);
const name = ['mysql2', 'mariadb'].includes(words[0]) ? words.shift() : 'mysql2';

/** Gives the outcome of an attempt: `origin TAB code:hexmessage ...`. */
function parse(line) {
    const [origin, ...errors] = line.split('\t');
    const follow = new Follow(origin);
    let outcome = 'ordinary';
    for (const error of errors) {
        const colon = error.indexOf(':');
        const message = Buffer.from(error.slice(colon + 1), 'hex').toString();
        try {
            const target = follow.refused(Number(error.slice(0, colon)), message);
            if (!target) return 'ordinary';
            outcome = `${target.host.includes(':') ? `[${target.host}]` : target.host}:${target.port}`;
        } catch (stop) {
            if (!(stop instanceof Stop)) throw stop;
            return stop.reason;
        }
    }
    return outcome;
}

const isMariadb = name === 'mariadb';
const driver = () => require(isMariadb ? '../mariadb.js' : '../mysql2-promise.js');

/** The driver's options for a request. */
function optionsOf({ host, port, user, password, database, tls, ca, follow, timeout, size }) {
    const options = {
        ...(host.startsWith('/') ? { socketPath: host } : { host, port }),
        user,
        password: password ?? undefined,
        database: database ?? undefined,
        connectTimeout: (timeout ?? 10) * 1000,
        connectionLimit: size,
    };
    if (size === undefined) delete options.connectionLimit;
    // Its pool tries again and again, until then.
    else if (isMariadb) options.acquireTimeout = options.connectTimeout;
    if (follow) options.instantFailover = follow;
    if (tls === 'require') options.ssl = { rejectUnauthorized: false };
    if (tls === 'verify') {
        options.ssl = { rejectUnauthorized: true, ...(ca ? { ca: fs.readFileSync(ca) } : {}) };
        if (!isMariadb) options.ssl.verifyIdentity = true;
    }
    return options;
}

const rowsOf = (result) => (isMariadb ? result : result[0]);

/** The first column of the first row as text. */
function first(result) {
    const value = Object.values(rowsOf(result)[0] ?? { none: null })[0];
    return value === null ? null : String(value);
}

/** The cluster of the driver for a list of hosts, which tries them in order. */
function clusterOf({ hosts, ...request }) {
    const cluster = driver().createPoolCluster({ defaultSelector: 'ORDER', removeNodeErrorCount: 1 });
    for (const [index, address] of hosts.entries()) {
        const [host, port] = address.split(':');
        const options = optionsOf({ ...request, host, port: Number(port), size: 4 });
        // What it waits for a node before it tries the next one.
        if (isMariadb) options.acquireTimeout = 1000;
        cluster.add(`h${index + 1}`, options);
    }
    return cluster;
}

/** A pool, or all of the pools of a cluster. */
function poolOf(request) {
    return request.hosts ? clusterOf(request).of(isMariadb ? '.*' : '*') : driver().createPool(optionsOf(request));
}

const connections = new Map();
const pools = new Map();
const operations = {
    connect: async (request) => {
        const cluster = request.hosts ? clusterOf(request) : undefined;
        const connection = await (cluster?.getConnection() ?? driver().createConnection(optionsOf(request)));
        // mariadb ends the program if a connection is lost, and this is not heard.
        connection.on('error', () => {});
        connections.set(request.id, connection);
    },
    query: async ({ id, sql }) => first(await connections.get(id).query(sql)),
    close: async ({ id }) => void (await connections.get(id).end()),
    pool: async (request) => void pools.set(request.id, poolOf(request)),
    pool_query: async ({ id, sql }) => first(await pools.get(id).query(sql)),
};

/** Carries out one JSON request. */
async function land(line) {
    const request = JSON.parse(line);
    try {
        return JSON.stringify({ ok: (await operations[request.op](request)) ?? null });
    } catch (error) {
        // The pool of mariadb puts the server's error into one of its own, and its cluster that one into another.
        let cause = error;
        while (cause.cause) cause = cause.cause;
        return JSON.stringify({
            error: { code: cause.errno > 0 ? cause.errno : 0, message: cause.message || String(cause) },
        });
    }
}

/** Answers each line of the input with one line. */
async function lines(answer) {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        fs.writeSync(1, `${await answer(line)}\n`);
    }
    process.exit();
}

/** Lets workers write through a pool, and prints what became of their transactions. */
async function load(options) {
    const { seconds, workers, file } = options;
    const pool = driver().createPool(optionsOf({ ...options, size: workers }));
    const output = fs.openSync(file, 'a');
    const report = {
        acknowledged: 0,
        errors_in_transaction: 0,
        errors_outside: 0,
        unknown: 0,
        longest_pause_ms: 0,
        first_errors: [],
    };
    const note = (counter, error) => {
        report[counter]++;
        if (report.first_errors.length < 10) report.first_errors.push(error.message);
    };
    const end = Date.now() + seconds * 1000;
    let last = Date.now();

    const acknowledge = (id) => {
        fs.writeSync(output, `${id}\n`);
        report.acknowledged++;
        report.longest_pause_ms = Math.max(report.longest_pause_ms, Date.now() - last);
        last = Date.now();
    };
    /** One read and one transaction. */
    const step = async (id) => {
        let counter = 'errors_outside';
        let connection;
        let isCommitting = false;
        try {
            connection = await pool.getConnection();
            await connection.query('SELECT COUNT(*) FROM orders WHERE id < 0');
            await connection.query('BEGIN');
            counter = 'errors_in_transaction';
            await connection.query(`INSERT INTO orders(id) VALUES(${id})`);
            await connection.query(`INSERT INTO \`lines\`(id) VALUES(${id})`);
            isCommitting = true;
            await connection.query('COMMIT');
            acknowledge(id);
            await connection.release();
        } catch (error) {
            note(counter, error);
            // An error of the server has an SQLSTATE and leaves the connection usable.
            if (isCommitting && (error.fatal || !(error.errno > 0 && error.errno < 45000))) note('unknown', error);
            connection?.destroy();
            await new Promise((resolve) => setTimeout(resolve, 10));
        }
    };
    const work = async (worker) => {
        for (let k = 1; Date.now() < end; k++) await step(worker * 1e9 + k);
    };
    await Promise.all(Array.from({ length: workers }, (_, worker) => work(worker)));
    report.longest_pause_ms = Math.max(report.longest_pause_ms, Date.now() - last);
    await pool.end();
    console.log(JSON.stringify(report));
    process.exit();
}

switch (words[0]) {
    case 'parse':
        lines(async (line) => parse(line));
        break;
    case 'land':
        lines(land);
        break;
    case 'load':
        load(JSON.parse(words[1]));
        break;
    default:
        console.error('usage: conformance.js [mysql2|mariadb] parse | land | load JSON');
        process.exit(1);
}
