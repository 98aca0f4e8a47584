'use strict';

const { CODE, Follow, Stop, isRedirect, shown } = require('./redirect.js');

const OPTION = 'instantFailover';
const ENVIRONMENT = 'INSTANT_FAILOVER_FOLLOW';
const VALUES = { 0: 'never', 1: 'auto', never: 'never', verified: 'verified', auto: 'auto', always: 'always' };

/**
 * Separates the option of this package from those of the driver, which may be an object or a URL.
 * @returns {{ options: object | string, settings: { name: string, value: string } }} the driver's, and who may redirect
 */
function takeSettings(options) {
    let value;
    if (typeof options === 'string') {
        [options, value] = takeFromUrl(options);
    } else if (options) {
        options = { ...options };
        if (typeof options.uri === 'string') [options.uri, value] = takeFromUrl(options.uri);
        value = options[OPTION] ?? value;
        delete options[OPTION];
    }
    const given = value !== undefined;
    value = String(value ?? (process.env[ENVIRONMENT] || 'auto'));
    return { options, settings: { name: given ? OPTION : ENVIRONMENT, value: VALUES[value.toLowerCase()] ?? value } };
}

/** Cuts `instantFailover=value` out of the query of a URL, and changes nothing else. */
function takeFromUrl(url) {
    const start = url.indexOf('?');
    if (start < 0) return [url, undefined];
    const parameters = url.slice(start + 1).split('&');
    const others = parameters.filter((parameter) => !parameter.startsWith(`${OPTION}=`));
    if (others.length === parameters.length) return [url, undefined];
    const value = new URLSearchParams(url.slice(start)).get(OPTION);
    return [url.slice(0, start) + (others.length ? `?${others.join('&')}` : ''), value];
}

/** One attempt of the driver to connect, over all servers that it is sent to. */
class Attempt {
    #settings;
    #follow;
    #deadline;
    /** The error that is complete. */
    #last;

    /**
     * @param settings who may redirect
     * @param {string} origin the first server, `host:port` or the path of a socket
     * @param {number} timeout milliseconds for the whole attempt, 0 for no limit
     */
    constructor(settings, origin, timeout) {
        this.#settings = settings;
        this.#follow = new Follow(origin);
        this.#deadline = timeout ? Date.now() + timeout : 0;
    }

    get wasRedirected() {
        return this.#follow.wasRedirected;
    }

    /** The milliseconds that are left: at least 1, and 0 for no limit. */
    get timeLeft() {
        return this.#deadline && Math.max(1, this.#deadline - Date.now());
    }

    /**
     * Where to go after a server refused the login. If nowhere, the error is complete for the program: it says why a redirect
     * is not followed, and lists the servers on the way.
     * @param error the driver's error, with `errno` and `sqlMessage`
     * @param peer what is known about the server: `greeted`, `tls`, `asked`, `verified`, and `cure`, the options to set
     */
    next(error, peer) {
        if (this.#settings.value !== 'never' && isRedirect(error.errno, error.sqlMessage)) {
            const objection = this.#objection(peer);
            if (objection) {
                say(error, `${error.sqlMessage} (not followed: ${objection})`);
            } else {
                try {
                    return this.#follow.refused(error.errno, error.sqlMessage);
                } catch (stop) {
                    if (!(stop instanceof Stop)) throw stop;
                    error.errno = CODE;
                    say(error, stop.message);
                    this.#last = error;
                    return undefined;
                }
            }
        }
        this.explain(error);
        return undefined;
    }

    /** Adds the servers on the way to an error: the program knows only the first. */
    explain(error) {
        if (!this.wasRedirected || error === this.#last) return;
        say(error, `${error.sqlMessage ?? error.message} (redirected: ${this.#follow})`);
        this.#last = error;
    }

    #objection(peer) {
        const { name, value } = this.#settings;
        if (VALUES[value] !== value) return `${name} is ${shown(value)}; give never, verified, auto or always`;
        if (peer.fixed) return peer.fixed;
        if (!peer.greeted)
            return 'the server sent it in place of its greeting, before TLS; anyone on the network can do that';
        if (peer.usesTLS && !peer.tls) return 'the server sent it before TLS; anyone on the network can do that';
        const isProven = peer.tls && peer.verified;
        if (value === 'always' || isProven || (value === 'auto' && !peer.asked)) return '';
        const reason = peer.tls ? "the server's certificate is not verified" : 'the connection has no TLS';
        return `${reason} (${name}=${value}); set ${peer.cure}, or ${name}=always`;
    }
}

/** Gives the error another text of the server. A driver may have put something before it. */
function say(error, text) {
    // The stack begins with the message of the moment when it is first read.
    const { stack, message, sqlMessage } = error;
    const isWithin = sqlMessage !== undefined && message.includes(sqlMessage);
    error.message = isWithin ? message.replace(sqlMessage, () => text) : text;
    if (sqlMessage !== undefined) error.sqlMessage = text;
    if (stack) error.stack = stack.replace(message, () => error.message);
}

module.exports = { Attempt, takeSettings };
