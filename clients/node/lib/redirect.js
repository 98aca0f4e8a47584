'use strict';

// What a client does after a server refused it: the convention of docs/protocol.md, without I/O.

const MAX_HOPS = 8;
const CODE = 4196;
/** The number that another published version of the proposal used. */
const ALSO_ACCEPTED = 4200;
/** The port of a target without one, whatever the port of the server that sent it. */
const DEFAULT_PORT = 3306;

const MAX_NAME = 253;
const MAX_TARGET = MAX_NAME + ':65535'.length;

/** Why a redirect cannot be followed: `reason` is malformed, circle or too many. */
class Stop extends Error {
    constructor(reason, message) {
        super(message);
        this.reason = reason;
    }
}

/** One attempt to connect: from the server that the program named to the one that accepts the login. */
class Follow {
    #origin;
    #hops = [];

    /** @param {string} origin `host:port`, or the path of a Unix socket */
    constructor(origin) {
        this.#origin = origin;
    }

    get wasRedirected() {
        return this.#hops.length > 0;
    }

    /**
     * After a server refused the login with this error: the target to connect to, or undefined for an ordinary error.
     * Throws a Stop for a redirect that cannot be followed.
     */
    refused(code, message) {
        const text = targetIn(code, message);
        if (text === undefined) return undefined;
        const target = readTarget(text);
        if (typeof target === 'string') {
            const problem = `${shown(text)} is not a target: ${target}; give host, host:port or [IPv6]:port`;
            throw new Stop('malformed', `Server '${this.#here}' sent an invalid redirect target: ${problem}`);
        }
        if (this.#hasSeen(target)) throw new Stop('circle', `Redirect loop: ${this} -> ${addressOf(target)}`);
        if (this.#hops.length >= MAX_HOPS) {
            throw new Stop('too many', `Too many instant failovers (>= ${MAX_HOPS}): ${this}`);
        }
        this.#hops.push(target);
        return target;
    }

    /** The servers in order: `db1:3306 -> db2:3307`. */
    toString() {
        return [this.#origin, ...this.#hops.map(addressOf)].join(' -> ');
    }

    get #here() {
        return this.wasRedirected ? addressOf(this.#hops.at(-1)) : this.#origin;
    }

    /** An origin that is not a valid target cannot be the destination of a redirect. */
    #hasSeen(target) {
        return [readTarget(this.#origin), ...this.#hops].some((seen) => isSame(seen, target));
    }
}

function isSame(one, other) {
    return one.port === other.port && one.host.toLowerCase() === other.host.toLowerCase();
}

/** Whether an error has the form of a redirect, valid or not. */
function isRedirect(code, message) {
    return targetIn(code, message) !== undefined;
}

/** What follows the last bar of `|text|target`: in some character sets a bar is part of a character of the text. */
function targetIn(code, message) {
    if ((code !== CODE && code !== ALSO_ACCEPTED) || typeof message !== 'string') return undefined;
    const last = message.lastIndexOf('|');
    return last > 0 && message[0] === '|' ? message.slice(last + 1) : undefined;
}

/** `host:port`, with an IPv6 address in brackets. */
function addressOf({ host, port }) {
    return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** A target as host and port, or what is wrong with it. The host is in canonical form, without brackets. */
function readTarget(text) {
    const length = Buffer.byteLength(text);
    if (length > MAX_TARGET) return `it has ${length} bytes, but a target has at most ${MAX_TARGET}`;
    if (text.includes('://')) return `leave out ${shown(text.slice(0, text.indexOf('://') + 3))}`;
    let host, port;
    if (text.startsWith('[')) {
        const end = text.indexOf(']');
        if (end < 0) return 'the bracket is not closed';
        const groups = readIPv6(text.slice(1, end));
        if (!groups) return `${shown(text.slice(1, end))} is not an IPv6 address`;
        host = textOf(groups);
        if (!isOneHost(groups)) return `${host} is not the address of a single host`;
        const after = text.slice(end + 1);
        if (after && !after.startsWith(':')) return "only ':' and a port can follow the bracket";
        port = after ? after.slice(1) : undefined;
    } else if (readIPv6(text)) {
        return `write an IPv6 address in brackets, [${text}]`;
    } else {
        const colon = text.indexOf(':');
        host = colon < 0 ? text : text.slice(0, colon);
        const problem = problemOfName(host);
        if (problem) return problem;
        port = colon < 0 ? undefined : text.slice(colon + 1);
    }
    if (port !== undefined && !(/^[1-9]\d{0,4}$/.test(port) && Number(port) <= 65535)) {
        return `port ${shown(port)} is not a number from 1 to 65535`;
    }
    return { host, port: port === undefined ? DEFAULT_PORT : Number(port) };
}

/** Eight groups, or undefined. Node's parsers accept more, or tell less. */
function readIPv6(text) {
    const halves = text.split('::');
    if (halves.length > 2) return undefined;
    const [head, tail] = halves.map((half, index) => readGroups(half, index === halves.length - 1));
    if (!head || (halves.length === 2 && !tail)) return undefined;
    if (!tail) return head.length === 8 ? head : undefined;
    const zeros = 8 - head.length - tail.length;
    return zeros > 0 ? [...head, ...Array(zeros).fill(0), ...tail] : undefined;
}

function readGroups(text, mayEndInIPv4) {
    if (text === '') return [];
    const parts = text.split(':');
    const groups = [];
    for (const [index, part] of parts.entries()) {
        const isLast = index === parts.length - 1;
        const bytes = isLast && mayEndInIPv4 ? readIPv4(part) : undefined;
        if (bytes) groups.push(bytes[0] * 256 + bytes[1], bytes[2] * 256 + bytes[3]);
        else if (/^[\da-f]{1,4}$/i.test(part)) groups.push(parseInt(part, 16));
        else return undefined;
    }
    return groups;
}

function readIPv4(text) {
    const parts = text.split('.');
    const isByte = (part) => /^(?:0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255;
    return parts.length === 4 && parts.every(isByte) ? parts.map(Number) : undefined;
}

/** The four bytes of an IPv4 address that is mapped into IPv6. */
function mappedIn(groups) {
    if (groups.slice(0, 5).some(Boolean) || groups[5] !== 0xffff) return undefined;
    return [groups[6] >> 8, groups[6] & 255, groups[7] >> 8, groups[7] & 255];
}

/** The text of RFC 5952; an IPv4 address mapped into IPv6 is that IPv4 address. */
function textOf(groups) {
    const mapped = mappedIn(groups);
    if (mapped) return mapped.join('.');
    let longest = { start: 0, length: 1 };
    for (let start = 0; start < 8; start++) {
        let length = 0;
        while (groups[start + length] === 0) length++;
        if (length > longest.length) longest = { start, length };
    }
    const texts = groups.map((group) => group.toString(16));
    if (longest.length === 1) return texts.join(':');
    return `${texts.slice(0, longest.start).join(':')}::${texts.slice(longest.start + longest.length).join(':')}`;
}

/**
 * Whether an address can be that of a single host. 0.0.0.0/8 is never a destination (RFC 1122 section 3.2.1.3), and clients
 * take 0.0.0.0 and :: for their own machine.
 */
function isOneHost(groups) {
    const mapped = mappedIn(groups);
    if (mapped) return isOneIPv4Host(mapped);
    return groups.some(Boolean) && groups[0] >> 8 !== 0xff;
}

function isOneIPv4Host(bytes) {
    const isMulticast = bytes[0] >= 224 && bytes[0] <= 239;
    return bytes[0] !== 0 && !isMulticast && bytes.some((byte) => byte !== 255);
}

/**
 * What is wrong with a DNS name or an IPv4 address; empty if nothing. A name whose last label is a number would be taken for
 * an IPv4 address by some resolvers (RFC 1123 section 2.1), so it must be one.
 */
function problemOfName(name) {
    if (!name) return 'the host is missing';
    const bad = /[^\dA-Za-z_.-]/u.exec(name);
    if (bad) return `a host name cannot contain ${shown(bad[0])}`;
    if (name.length > MAX_NAME) return `a host name has at most ${MAX_NAME} characters, this one has ${name.length}`;
    const labels = name.split('.');
    if (/^(?:\d+|0x[\da-f]*)$/i.test(labels.at(-1))) {
        const bytes = readIPv4(name);
        if (!bytes) return `${shown(name)} is not an IPv4 address`;
        return isOneIPv4Host(bytes) ? '' : `${name} is not the address of a single host`;
    }
    const invalid = labels.find((label) => !/^(?!-)[\da-z_-]{1,63}(?<!-)$/i.test(label));
    if (invalid === undefined) return '';
    return `${shown(invalid)} is not a valid host name label (1 to 63 letters, digits, underscores and inner hyphens)`;
}

/** A value in quotes for an error: at most 60 characters, control characters escaped. */
function shown(value) {
    let text = '';
    let left = 60;
    for (const character of value) {
        const isPlain = !/\p{Cc}/u.test(character) && character <= '\uffff';
        const piece = isPlain ? character : `\\u{${character.codePointAt(0).toString(16)}}`;
        if (piece.length > left) return `'${text}...'`;
        left -= piece.length;
        text += piece;
    }
    return `'${text}'`;
}

/** The origin as a redirect back to it would be written. */
function originOf(host, port) {
    return addressOf({ host: String(host), port });
}

module.exports = { CODE, Follow, Stop, isRedirect, originOf, shown };
