package instantfailover_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
)

// A hostile server misbehaves as real ones do not.
type hostile struct {
	net.Listener
	mutex sync.Mutex
	// received is what clients sent, one packet each.
	received [][]byte
}

func (h *hostile) packets() [][]byte {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return append([][]byte(nil), h.received...)
}

// hostileServer answers each connection by the packets before and after the client's first one. The client finds them in
// one segment.
func hostileServer(t *testing.T, before, after []byte) *hostile {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{Listener: listener}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go h.serve(conn, before, after)
		}
	}()
	return h
}

func (h *hostile) serve(conn net.Conn, before, after []byte) {
	defer conn.Close()
	if _, err := conn.Write(before); err != nil {
		return
	}
	header := make([]byte, 4)
	if _, err := io.ReadFull(conn, header); err != nil {
		return
	}
	body := make([]byte, int(header[0])|int(header[1])<<8)
	if _, err := io.ReadFull(conn, body); err != nil {
		return
	}
	h.mutex.Lock()
	h.received = append(h.received, body)
	h.mutex.Unlock()
	if after == nil {
		// It never answers, until the client gives up.
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	_, _ = conn.Write(after)
}

func packet(sequence byte, body []byte) []byte {
	return append([]byte{byte(len(body)), byte(len(body) >> 8), 0, sequence}, body...)
}

func refusal(sequence byte, code uint16, message string) []byte {
	return packet(sequence, append(binary.LittleEndian.AppendUint16([]byte{0xff}, code), "#HY000"+message...))
}

func greeting(withTLS bool) []byte {
	low, high := uint16(0xa20f), uint16(0x0008)
	if withTLS {
		low |= 0x0800
	}
	var body bytes.Buffer
	body.WriteString("\x0a11.8.6-MariaDB\x00\x07\x00\x00\x00abcdefgh\x00")
	for _, part := range []any{low, byte(45), uint16(2), high, byte(21), [10]byte{}} {
		_ = binary.Write(&body, binary.LittleEndian, part)
	}
	body.WriteString("ijklmnopqrst\x00mysql_native_password\x00")
	return packet(0, body.Bytes())
}
