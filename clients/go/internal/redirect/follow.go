// Package redirect decides what a client does after a server refused it: the convention of docs/protocol.md, without I/O.
package redirect

import (
	"fmt"
	"strings"
)

const (
	// MaxHops is the most redirects that one attempt to connect follows.
	MaxHops = 8
	// Code is the number of the error that redirects.
	Code = 4196
	// alsoAccepted is the number that another published version of the proposal used.
	alsoAccepted = 4200
)

// A Follow is one attempt to connect: from the server that the program named to the one that accepts the login.
type Follow struct {
	origin string
	hops   []Target
}

// From begins an attempt at host:port, or at the path of a Unix socket.
func From(origin string) *Follow {
	return &Follow{origin: origin}
}

// Refused says what to do after a server refused the login with this error: connect to a target, or, with an error of type
// [Stop], show that error; with neither, the server's error is an ordinary one.
func (f *Follow) Refused(code uint16, message string) (*Target, error) {
	text, found := targetIn(code, message)
	if !found {
		return nil, nil
	}
	target, err := parseTarget(text)
	if err != nil {
		return nil, Stop{Malformed, fmt.Sprintf("Server '%s' sent an invalid redirect target: %v", f.here(), err)}
	}
	if f.seen(target) {
		return nil, Stop{Circle, fmt.Sprintf("Redirect loop: %s -> %s", f, target)}
	}
	if len(f.hops) >= MaxHops {
		return nil, Stop{TooMany, fmt.Sprintf("Too many instant failovers (>= %d): %s", MaxHops, f)}
	}
	f.hops = append(f.hops, target)
	return &target, nil
}

// IsRedirect tells whether an error has the form of a redirect, valid or not.
func IsRedirect(code uint16, message string) bool {
	_, found := targetIn(code, message)
	return found
}

// targetIn returns what follows the last bar of |text|target. In some character sets a bar is part of a character of the
// text, but a target never contains one.
func targetIn(code uint16, message string) (string, bool) {
	last := strings.LastIndexByte(message, '|')
	if code != Code && code != alsoAccepted || last < 1 || message[0] != '|' {
		return "", false
	}
	return message[last+1:], true
}

// WasRedirected tells whether any redirect was followed.
func (f *Follow) WasRedirected() bool {
	return len(f.hops) > 0
}

// String lists the servers in order: db1:3306 -> db2:3307.
func (f *Follow) String() string {
	text := f.origin
	for _, hop := range f.hops {
		text += " -> " + hop.String()
	}
	return text
}

func (f *Follow) here() string {
	if len(f.hops) == 0 {
		return f.origin
	}
	return f.hops[len(f.hops)-1].String()
}

// seen tells whether the target was tried before. An origin that is not a valid target cannot be one.
func (f *Follow) seen(target Target) bool {
	if origin, err := parseTarget(f.origin); err == nil && origin.same(target) {
		return true
	}
	for _, hop := range f.hops {
		if hop.same(target) {
			return true
		}
	}
	return false
}

// A Reason is why a redirect cannot be followed.
type Reason string

// The reasons.
const (
	Malformed Reason = "malformed"
	Circle    Reason = "circle"
	TooMany   Reason = "too many"
)

// Stop is the error of a redirect that cannot be followed.
type Stop struct {
	Reason  Reason
	Message string
}

func (s Stop) Error() string { return s.Message }
