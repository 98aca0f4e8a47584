'use strict';

// What is special about one driver.

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const path = require('node:path');
const { after, before, it } = require('node:test');
const { descriptors, eventually, greeting, hostile, password, start } = require('./servers.js');
const { call, drivers } = require('./drivers.js');
const mariadb = require('../mariadb.js');
const mariadbCallback = require('../mariadb-callback.js');
const mysql = require('../mysql2.js');

let servers, db1, db2, options;

before(async () => {
    servers = await start();
    ({ db1, db2 } = servers);
    options = { host: 'localhost', port: db1.port, user: 'app', password, database: 'demo', connectTimeout: 10000 };
    await db1.redirect(db2.address('localhost'));
});
after(() => servers?.stop());

it('keeps the commands and listeners of a connection of mysql2', async () => {
    const connection = mysql.createConnection(options);
    const heard = [];
    connection.on('connect', () => heard.push('connect'));
    connection.on('error', (error) => heard.push(error.message));
    const rows = [];
    const queries = [
        call(connection, 'query', 'SELECT @@port AS port'),
        call(connection, 'execute', 'SELECT ? AS given', ['x']),
        new Promise((resolve) => {
            connection
                .query('SELECT 1 AS n UNION SELECT 2')
                .on('result', (row) => rows.push(row.n))
                .on('end', resolve);
        }),
        call(connection, 'ping'),
    ];
    const [[{ port }], [{ given }]] = await Promise.all(queries);
    assert.deepEqual([port, given, rows, heard], [db2.port, 'x', [1, 2], ['connect']]);
    assert.equal(connection.config.host, 'localhost');
    assert.equal(connection.threadId, (await call(connection, 'query', 'SELECT CONNECTION_ID() AS id'))[0].id);
    await call(connection, 'end');
});

it('keeps the commands of a connection of mariadb', async () => {
    const connection = mariadbCallback.createConnection(options);
    const results = await Promise.all([
        call(connection, 'query', 'SELECT @@port AS value'),
        call(connection, 'query', 'SELECT ? AS value', [7]),
        call(connection, 'ping').then(() => [{ value: 'pong' }]),
    ]);
    assert.deepEqual(
        results.map(([{ value }]) => String(value)),
        [String(db2.port), '7', 'pong'],
    );
    await call(connection, 'end');
});

it('leaves the drivers as they are for others', async () => {
    for (const [driver, more] of [
        [require('mysql2/promise'), {}],
        [require('mariadb'), {}],
    ]) {
        await assert.rejects(driver.createConnection({ ...options, ...more }), (error) => {
            assert.equal(error.errno, 4196);
            assert.ok(error.message.endsWith(`|${db2.address('localhost')}`), error.message);
            return true;
        });
    }
});

it("does not take the error of mariadb's first statements for a redirect", async () => {
    const signal = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 4196, MESSAGE_TEXT = '|text|nowhere.invalid'";
    await db1.off();
    const direct = await mariadb.createConnection({ ...options, initSql: signal }).catch((error) => error);
    await db1.redirect(db2.address('localhost'));
    const redirected = await mariadb.createConnection({ ...options, initSql: signal }).catch((error) => error);
    for (const error of [direct, redirected]) assert.match(error.message, /\|text\|nowhere\.invalid/);
    assert.doesNotMatch(direct.message, /redirected/);
    assert.match(redirected.message, /\(redirected: /);
});

it('says why a pool of mariadb gives no connection', async () => {
    const pool = mariadb.createPool({ ...options, instantFailover: 'verified', acquireTimeout: 1000 });
    const error = await pool.getConnection().catch((error) => error);
    assert.equal(error.errno, 45028);
    assert.equal(error.cause.errno, 4196);
    assert.match(error.cause.message, /not followed: the connection has no TLS/);
    await pool.end();
});

it('closes a connection that the program gives up meanwhile', async () => {
    const before = descriptors();
    for (const delay of [0, 1, 2, 3, 4, 5, 6, 8, 12, 0, 1, 2, 3, 4, 5, 6]) {
        const connection = mysql.createConnection(options);
        connection.on('error', () => {});
        await new Promise((resolve) => setTimeout(resolve, delay));
        connection.destroy();
        const other = mariadbCallback.createConnection(options);
        other.on('error', () => {});
        await new Promise((resolve) => setTimeout(resolve, delay));
        // Its destroy() sends a KILL, and does not catch the error if there is nothing left to kill.
        other.end(() => {});
    }
    await eventually(() => assert.ok(descriptors() <= before + 1, `${before} before, ${descriptors()} after`), 10);
    await eventually(async () => {
        const [sessions] = await db2.root.query("SELECT id FROM information_schema.processlist WHERE user = 'app'");
        assert.equal(sessions.length, 0);
    }, 10);
});

it('kills a statement of mariadb where it runs, or nowhere', async () => {
    const killed = async () => Number((await db2.root.query("SHOW GLOBAL STATUS LIKE 'Com_kill'"))[0][0].Value);
    await db1.off();
    const connection = await mariadb.createConnection(options);
    connection.query('SELECT SLEEP(2)').catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 200));
    await db1.redirect(db2.address('localhost'));
    const before = await killed();
    connection.destroy();
    await eventually(async () => {
        const [sessions] = await db1.root.query("SELECT id FROM information_schema.processlist WHERE user = 'app'");
        assert.equal(sessions.length, 0);
    }, 20);
    assert.equal(await killed(), before);
});

it('survives what no server sends', async () => {
    const junk = [
        Buffer.from([1, 0, 0, 0, 0xff]),
        Buffer.from([3, 0, 0, 0, 0xff, 0x64, 0x10]),
        Buffer.from([0, 0, 0, 0]),
        Buffer.from([0xff, 0xff, 0xff, 0, 0x0a]),
        Buffer.concat([greeting(false), Buffer.from([1, 0, 0, 2, 0xff])]),
        Buffer.concat([greeting(false), Buffer.from([4, 0, 0, 2, 0xff, 0x64, 0x10, 0x23])]),
        Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
    ];
    const types = Object.values(drivers);
    for (const sent of junk) {
        const server = await hostile(sent, null);
        await db1.redirect(server.address);
        await Promise.all(types.map((driver) => assert.rejects(driver.connect({ ...options, connectTimeout: 500 }))));
        server.stop();
    }
    await db1.redirect(db2.address('localhost'));
});

it('is imported by name, and knows the types', () => {
    const script = `
        import { createPool, createConnection } from 'instant-failover/mysql2/promise';
        import mysql, { createPoolCluster } from 'instant-failover/mysql2';
        import { createPool as mariadbPool, SqlError } from 'instant-failover/mariadb';
        import mariadb from 'instant-failover/mariadb/callback';
        console.log([createPool, createConnection, mysql.createPool, createPoolCluster, mariadbPool, SqlError, mariadb.createPool]
            .every((value) => typeof value === 'function'));`;
    const options = { cwd: path.join(__dirname, '..'), encoding: 'utf8' };
    assert.equal(execFileSync(process.execPath, ['--input-type=module', '-e', script], options), 'true\n');
});
