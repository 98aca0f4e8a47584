'use strict';
// mysql2 that follows instant failover: connect() takes the options of createConnection(), and resolves as its promise does.
const net = require('node:net');
const mysql = require('mysql2');

const FORM = /^\|[^]*\|(?:\[([\da-f:.]+)\]|([\da-z_.-]{1,253}))(?::([1-9]\d{0,4}))?$/i;
const NAME = /^(?:(?!-)[\da-z_-]{1,63}(?<!-)\.)*(?!-)[\da-z_-]{1,63}(?<!-)$/i;
const NUMBER = /(?:^|\.)(?:\d+|0x[\da-f]*)$/i; // a name that ends so must be an address (RFC 1123)
const NO_HOST = /^(?:0\.|22[4-9]\.|23\d\.|255\.255\.255\.255$|::$|ff[\da-f]{2}:)/; // unspecified, multicast, broadcast

// An address in its one form: ::ffff:192.0.2.1 is 192.0.2.1. A name as it is.
function canonical(host) {
    if (!net.isIPv6(host) || host.includes('%')) return host;
    const text = new URL(`http://[${host}]`).hostname.slice(1, -1);
    const mapped = /^::ffff:([\da-f]+):([\da-f]+)$/.exec(text);
    if (!mapped) return text;
    const [high, low] = mapped.slice(1).map((group) => parseInt(group, 16));
    return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

// Host and port if the error is 4196 (or 4200) and its message `|text|target`, else undefined.
function targetOf(error) {
    const form = (error.errno === 4196 || error.errno === 4200) && FORM.exec(error.sqlMessage);
    if (!form) return undefined;
    const [, v6, name, port] = [...form];
    const host = canonical(v6 ?? name);
    const good = v6 ? net.isIPv6(v6) : NAME.test(name) && (net.isIPv4(name) || !NUMBER.test(name));
    const isHost = !net.isIP(host) || !NO_HOST.test(host);
    return good && isHost && Number(port ?? 3306) <= 65535 ? { host, port: Number(port ?? 3306) } : undefined;
}

exports.targetOf = targetOf;
exports.connect = async (options) => {
    const chain = [];
    for (let target; ;) {
        // Over TCP, the rest as asked for; a certificate is checked against this host.
        const connection = mysql.createConnection(target ? { ...options, ...target, socketPath: undefined } : options);
        const error = await new Promise((resolve) => {
            connection.once('connect', () => resolve()).once('error', resolve);
        });
        if (!error) return connection.promise();
        const { host, port, socketPath, ssl } = connection.config;
        if (!target) chain.push(socketPath ?? `${canonical(host)}:${port}`.toLowerCase());
        target = targetOf(error);
        // What was said outside TLS is not to be trusted if TLS was asked for.
        if (!target || (ssl && connection.stream.secureConnecting !== false)) throw error;
        chain.push(`${target.host}:${target.port}`.toLowerCase());
        if (new Set(chain).size < chain.length || chain.length > 9) {
            throw Object.assign(new Error(`Redirect loop or too many redirects: ${chain.join(' -> ')}`), { errno: 4196 });
        }
    }
};
