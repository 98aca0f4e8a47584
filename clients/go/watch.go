package instantfailover

import (
	"errors"
	"net"
	"syscall"
)

var errPlaintext = errors.New("instant-failover: nothing is sent to a server without TLS after one with TLS")

// A watchedConn is the driver's connection to a server, and tells how far the login has come. The driver uses it from one
// goroutine at a time; another one may close it.
type watchedConn struct {
	net.Conn
	// onlyTLS: nothing except a request for TLS may be sent first.
	onlyTLS bool

	// answered: the driver has sent its first packet, so what it got before was a greeting.
	answered bool
	// tls: that packet was a request for TLS. A later error comes through TLS.
	tls bool
	// refused: that packet was not, but had to be.
	refused bool
	// written: the driver has written since it last read.
	written bool
}

func watch(conn net.Conn, onlyTLS bool) *watchedConn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		// The driver does this if it sees the type.
		_ = tcp.SetKeepAlive(true)
	}
	return &watchedConn{Conn: conn, onlyTLS: onlyTLS}
}

// forDriver keeps syscall.Conn if the connection has it: the driver needs that to notice dead connections.
func (c *watchedConn) forDriver() net.Conn {
	if raw, ok := c.Conn.(syscall.Conn); ok {
		return struct {
			*watchedConn
			syscall.Conn
		}{c, raw}
	}
	return c
}

// inSession tells, after an error of the server, whether it was the answer to a command and not to the login: only then
// does the driver say goodbye before it closes the connection.
func (c *watchedConn) inSession() bool {
	return c.answered && c.written
}

func (c *watchedConn) Read(data []byte) (int, error) {
	n, err := c.Conn.Read(data)
	if n > 0 {
		c.written = false
	}
	return n, err
}

func (c *watchedConn) Write(data []byte) (int, error) {
	if !c.answered {
		c.answered = true
		c.tls = isTLSRequest(data)
		if c.onlyTLS && !c.tls {
			c.refused = true
			return 0, errPlaintext
		}
	}
	c.written = true
	return c.Conn.Write(data)
}

// isTLSRequest recognises a login packet that ends after its 32 fixed bytes and has the capability flag CLIENT_SSL.
func isTLSRequest(packet []byte) bool {
	const header, fixed = 4, 32
	return len(packet) == header+fixed && packet[header+1]&0x08 != 0
}
