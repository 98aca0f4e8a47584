'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { it } = require('node:test');
const { check, findBase } = require('../lib/mysql2-check.js');
const { Follow, Stop, originOf } = require('../lib/redirect.js');

// The test vectors that docs/protocol.md gives to authors of connectors.
const vectors = require(path.join(__dirname, '../../../docs/protocol-vectors.json'));

/** What follows from an error: a target, a reason to stop, or null. */
function outcome(follow, code, message) {
    try {
        return follow.refused(code, message) ?? null;
    } catch (stop) {
        assert.ok(stop instanceof Stop, stop);
        return stop.reason;
    }
}

it('reads the messages of the convention', () => {
    assert.ok(vectors.messages.length > 100);
    for (const { name, message, hex, target } of vectors.messages) {
        const text = hex ? Buffer.from(hex, 'hex').toString() : message;
        assert.deepEqual(outcome(new Follow('nowhere:1'), 4196, text), target, name);
    }
});

it('makes the attempts of the convention', () => {
    assert.ok(vectors.attempts.length > 20);
    for (const { origin, errors, outcome: wanted } of vectors.attempts) {
        const follow = new Follow(origin);
        let last;
        for (const [code, message] of errors) last = outcome(follow, code, message);
        const text = last?.port ? String(follow).split(' -> ').at(-1) : (last ?? 'ordinary');
        assert.equal(text, wanted, `${origin} ${JSON.stringify(errors)}`);
    }
});

it('says what is wrong with a target', () => {
    for (const [target, problem] of [
        ['db2:0', "'db2:0' is not a target: port '0' is not a number from 1 to 65535; give host, host:port or [IPv6]:port"],
        ['a\u001bb', "'a\\u{1b}b' is not a target: a host name cannot contain '\\u{1b}'"],
        ['::1', "'::1' is not a target: write an IPv6 address in brackets, [::1]"],
        ['[::]', ':: is not the address of a single host'],
        // These are not letters of ASCII, but lower case turns them into such.
        ['\u017fb', "a host name cannot contain '\u017f'"],
        ['d\u212a', "a host name cannot contain '\u212a'"],
    ]) {
        assert.throws(() => new Follow('db1:3306').refused(4196, `|text|${target}`), {
            reason: 'malformed',
            message: RegExp(problem.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')),
        });
    }
});

it('writes an origin', () => {
    assert.equal(originOf('::1', 3306), '[::1]:3306');
    // The drivers take what is no text.
    assert.equal(originOf(5, 3307), '5:3307');
});

it('refuses a version of mysql2 that it does not know', () => {
    class Connection {
        addCommand() {}
    }
    for (const version of ['3.15.3', '2.3.3', '4.0.0']) {
        assert.throws(() => findBase(version, Connection, ['addCommand']), {
            message: RegExp(`mysql2 ${version}: that version`),
        });
    }
    assert.equal(findBase('3.99.0', Connection, ['addCommand']), Connection);
    assert.throws(() => findBase('3.99.0', Connection, ['addCommand', 'startTLS']), /mysql2 3\.99\.0: its connections lack/);
    assert.throws(() => check('3.99.0', () => ({ once: () => {} })), /cannot follow redirects with mysql2 3\.99\.0/);
});
