'use strict';

const assert = require('node:assert/strict');
const { after, afterEach, before, describe, it } = require('node:test');
const { descriptors, eventually, greeting, hostile, password, refusal, standIn, start } = require('./servers.js');
const { drivers } = require('./drivers.js');

let servers, db1, db2, ca;
const toStop = [];

before(async () => {
    servers = await start();
    ({ db1, db2, ca } = servers);
});
after(() => servers?.stop());
afterEach(async () => {
    for (const stop of toStop.splice(0)) await stop();
    delete process.env.INSTANT_FAILOVER_FOLLOW;
});

/** Something that is stopped after the test. */
async function use(starting) {
    const started = await starting;
    toStop.push(typeof started === 'function' ? started : started.stop);
    return started;
}

for (const [name, driver] of Object.entries(drivers)) {
    const isMariadb = name.startsWith('mariadb');

    describe(name, () => {
        const options = (server, more = {}) => ({
            host: 'localhost',
            port: server.port,
            user: 'app',
            password,
            database: 'demo',
            connectTimeout: 10000,
            ...more,
        });
        // What each driver calls TLS with and without verification.
        const verified = () => ({ ssl: { ca, verifyIdentity: isMariadb ? undefined : true } });
        const unverified = { ssl: { rejectUnauthorized: false } };

        /** The port of the server that a connection with these options lands on. */
        async function land(options) {
            const connection = await driver.connect(options);
            try {
                const [{ port }] = await connection.query('SELECT @@port AS port');
                return Number(port);
            } finally {
                await connection.end();
            }
        }

        async function refused(options, code, ...texts) {
            const error = await land(options).then(
                (port) => assert.fail(`landed on ${port}`),
                (error) => error,
            );
            if (code) assert.equal(error.errno, code, error.message);
            assert.equal(error.stack.split(error.message).length, 2, error.stack);
            for (const text of texts) assert.ok(error.message.includes(text), `'${text}' is not in '${error.message}'`);
            return error;
        }

        it('follows, and forgets', async () => {
            await use(db1.redirect(db2.address('localhost')));
            assert.equal(await land(options(db1)), db2.port);
            await db1.off();
            assert.equal(await land(options(db1)), db1.port);
        });

        it('follows from a Unix socket', async () => {
            assert.equal(await land(options(db1, { socketPath: db1.socket })), db1.port);
            await use(db1.redirect(db2.address('localhost'), 'ALL'));
            assert.equal(await land(options(db1, { socketPath: db1.socket })), db2.port);
        });

        it('takes options as a URL', async () => {
            await use(db1.redirect(db2.address('localhost')));
            const scheme = isMariadb ? 'mariadb' : 'mysql';
            const url = `${scheme}://app:${password}@localhost:${db1.port}/demo?connectTimeout=9000`;
            assert.equal(await land(url), db2.port);
            const error = await refused(`${url}&instantFailover=never`, 4196);
            assert.ok(error.message.endsWith(`|${db2.address('localhost')}`), error.message);
        });

        it('follows in a pool, in a cluster, and back', async () => {
            for (const make of [driver.pool, driver.cluster]) {
                await use(db1.redirect(db2.address('localhost')));
                // That of mariadb connects at once.
                const pool = make(options(db1, { connectionLimit: 3 }));
                const port = async () => Number((await pool.query('SELECT @@port AS port'))[0].port);
                assert.deepEqual(await Promise.all([port(), port(), port()]), Array(3).fill(db2.port));
                // Its sessions end, and it connects again: to the first server.
                await db1.off();
                const [sessions] = await db2.root.query("SELECT id FROM information_schema.processlist WHERE user = 'app'");
                for (const { id } of sessions) await db2.root.query(`KILL ${id}`);
                await eventually(async () => assert.equal(await port(), db1.port), 20);
                await pool.end();
            }
        });

        it('lets the application work through a switch', async () => {
            const pool = driver.pool(options(db1, { connectionLimit: 4 }));
            const landed = {};
            let failures = 0;
            const end = Date.now() + 30000;
            const work = async () => {
                for (let port; port !== db2.port && Date.now() < end;) {
                    try {
                        port = Number((await pool.query('SELECT @@port AS port'))[0].port);
                        landed[port] = (landed[port] ?? 0) + 1;
                    } catch {
                        failures++;
                    }
                    await new Promise((resolve) => setTimeout(resolve, 5));
                }
            };
            const workers = [work(), work(), work(), work()];
            await new Promise((resolve) => setTimeout(resolve, 300));
            await use(db1.redirect(db2.address('localhost')));
            await db1.root.query('SET GLOBAL instant_failover_drain = ON');
            await Promise.all(workers);
            await pool.end();
            assert.ok(landed[db1.port] > 0 && landed[db2.port] === 4, `${JSON.stringify(landed)}, ${failures} failed`);
        });

        it('follows eight redirects and no more', async () => {
            const chain = [db2.address('127.0.0.1')];
            for (let n = 0; n < 9; n++) {
                const server = await use(hostile(greeting(false), refusal(2, 4196, `|text|${chain[0]}`)));
                chain.unshift(server.address);
            }
            const at = (address) => options({ port: Number(address.split(':')[1]) }, { host: '127.0.0.1' });
            assert.equal(await land(at(chain[1])), db2.port);
            const servers = chain.slice(0, 9).join(' -> ');
            await refused(at(chain[0]), 4196, `Too many instant failovers (>= 8): ${servers}`);
        });

        it('notices a loop, and names the servers of an error', async () => {
            await use(db1.redirect(db2.address('localhost')));
            await use(db2.redirect(db1.address('LocalHost')));
            const loop = [db1.address('localhost'), db2.address('localhost'), db1.address('LocalHost')].join(' -> ');
            const error = await refused(options(db1), 4196, `Redirect loop: ${loop}`);
            assert.ok(error.message.endsWith(loop), error.message);
            await db2.off();
            const chain = `(redirected: ${db1.address('localhost')} -> ${db2.address('localhost')})`;
            await refused(options(db1, { password: 'wrong' }), 1045, 'Access denied', chain);
            const server = await use(standIn('127.0.0.1:1'));
            await refused(options(server), 0, 'ECONNREFUSED', `(redirected: localhost:${server.port} -> 127.0.0.1:1)`);
        });

        it('passes other errors on', async () => {
            const target = db2.address('127.0.0.1');
            for (const [code, message, follows] of [
                [4200, `|text|${target}`, true],
                [4196, `|a|b|${target}`, true],
                [4196, `text|${target}`, false],
                [4196, `|${target}`, false],
                [1045, `|text|${target}`, false],
            ]) {
                const server = await use(hostile(greeting(false), refusal(2, code, message)));
                if (follows) {
                    assert.equal(await land(options(server)), db2.port);
                } else {
                    const error = await refused(options(server), code, message);
                    assert.equal(error.sqlMessage, message);
                }
            }
            const server = await use(hostile(greeting(false), refusal(2, 4196, `|text|${target}\n`)));
            await refused(options(server), 4196, `Server 'localhost:${server.port}' sent an invalid redirect target: `);
        });

        it('passes the errors of statements on', async () => {
            await use(db1.redirect(db2.address('localhost')));
            const message = `|text|${db1.address('localhost')}`;
            const connection = await driver.connect(options(db1));
            for (let n = 0; n < 2; n++) {
                const statement = `SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 4196, MESSAGE_TEXT = '${message}'`;
                await assert.rejects(connection.query(statement), (error) => {
                    assert.equal(error.errno, 4196);
                    assert.equal(error.sqlMessage, message);
                    return true;
                });
                assert.equal(Number((await connection.query('SELECT @@port AS port'))[0].port), db2.port);
            }
            await connection.end();
        });

        it('keeps TLS, and checks the name of each server', async () => {
            await use(db1.redirect(db2.address('localhost')));
            const secure = options(db1, { ...verified(), instantFailover: 'verified' });
            // More than once: a session may be resumed.
            for (let n = 0; n < 3; n++) {
                const connection = await driver.connect(secure);
                const [{ port, cipher }] = await connection.query(`SELECT @@port AS port, variable_value AS cipher FROM
                    information_schema.session_status WHERE variable_name = 'Ssl_cipher'`);
                assert.equal(Number(port), db2.port);
                assert.notEqual(cipher, '');
                await connection.end();
            }
            // The certificate is for localhost, and would be for the first server.
            await db1.redirect(db2.address('LOCALHOST'));
            assert.equal(await land(secure), db2.port);
            for (let n = 0; n < 2; n++) {
                await db1.redirect(db2.address('127.0.0.1'));
                await refused(secure, 0, "the server's certificate is not for", '(redirected: ');
            }
            const unknown = await use(standIn(db2.address('localhost')));
            await db1.redirect(`localhost:${unknown.port}`);
            await refused(secure, 0, 'certificate', '(redirected: ');
        });

        it('sends nothing to a server without TLS after one with TLS', async () => {
            const without = await use(hostile(greeting(false), refusal(2, 1045, 'arrived')));
            await use(db1.redirect(`localhost:${without.port}`));
            for (const tls of [verified(), unverified, { ...unverified, instantFailover: 'always' }]) {
                await refused(options(db1, tls), 0, '(redirected: ');
            }
            assert.deepEqual(without.received, []);
            await refused(options(without), 1045, 'arrived');
            assert.equal(without.received.length, 1);
        });

        it('follows those who may redirect', async () => {
            await use(db1.redirect(db2.address('localhost')));
            for (const [environment, more, objection] of [
                [undefined, {}, ''],
                ['', { instantFailover: 'AUTO' }, ''],
                [undefined, unverified, ''],
                ['never', { instantFailover: 'always' }, ''],
                ['verified', verified(), ''],
                ['always', { instantFailover: 0 }, undefined],
                ['Never', {}, undefined],
                [
                    'verified',
                    unverified,
                    "the server's certificate is not verified (INSTANT_FAILOVER_FOLLOW=verified); set ",
                ],
                [undefined, { instantFailover: 'verified' }, 'the connection has no TLS (instantFailover=verified); set '],
                ['yes', {}, "INSTANT_FAILOVER_FOLLOW is 'yes'; give never, verified, auto or always)"],
                [
                    'always',
                    { instantFailover: 'n\u001b' },
                    "instantFailover is 'n\\u{1b}'; give never, verified, auto or always)",
                ],
            ]) {
                if (environment === undefined) delete process.env.INSTANT_FAILOVER_FOLLOW;
                else process.env.INSTANT_FAILOVER_FOLLOW = environment;
                if (objection === '') {
                    assert.equal(await land(options(db1, more)), db2.port);
                } else {
                    const error = await refused(options(db1, more), 4196, objection ? `(not followed: ${objection}` : '');
                    if (objection === undefined) assert.ok(error.message.endsWith(`|${db2.address('localhost')}`));
                }
            }
        });

        it('does not believe what comes before TLS', async () => {
            const message = `|text|${db2.address('localhost')}`;
            const instead = await use(hostile(refusal(0, 4196, message), null));
            const always = { instantFailover: 'always' };
            for (const more of [{}, always, { ...unverified, ...always }, { ...verified(), ...always }]) {
                await refused(options(instead, more), 4196, message, 'in place of its greeting');
            }
            const inPlaintext = await use(hostile(greeting(true), refusal(2, 4196, message)));
            const together = await use(hostile(Buffer.concat([greeting(true), refusal(2, 4196, message)]), null));
            for (const server of [inPlaintext, together]) {
                for (const tls of [unverified, verified()]) await refused(options(server, { ...tls, ...always }), 0);
            }
        });

        it('gives up in time, and closes what it opened', async () => {
            const silent = await use(hostile(greeting(false), null));
            const mute = await use(hostile(null, null));
            for (const server of [silent, mute]) {
                await use(db1.redirect(server.address));
                const started = Date.now();
                await refused(options(db1, { connectTimeout: 700 }), 0, '(redirected: ');
                assert.ok(Date.now() - started < 8000);
            }
            await eventually(() => assert.equal(silent.sockets.size + mute.sockets.size, 0), 10);
        });

        it('leaks no socket', async () => {
            await use(db1.redirect(db2.address('localhost')));
            const malformed = await use(hostile(greeting(false), refusal(2, 4196, '|text|db 2')));
            const attempts = async () => {
                await land(options(db1));
                await land(options(db1, verified()));
                await refused(options(db1, { ...unverified, instantFailover: 'verified' }), 4196);
                await refused(options(malformed), 4196);
            };
            await attempts();
            const before = descriptors();
            for (let n = 0; n < 10; n++) await attempts();
            await eventually(() => assert.ok(descriptors() <= before + 3, `${before} before, ${descriptors()} after`), 10);
        });
    });
}
