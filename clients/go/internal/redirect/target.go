package redirect

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// defaultPort is the port of a target without one, whatever the port of the server that sent it.
const defaultPort = 3306

const (
	maxName   = 253
	maxLabel  = 63
	maxTarget = maxName + len(":65535")
)

// A Target is the server that a client is sent to. It is valid: only parseTarget makes one.
type Target struct {
	// Host is a DNS name, or an address in the form of RFC 5952 without brackets; an IPv4 address mapped into IPv6 is that
	// IPv4 address.
	Host string
	Port int
}

// String is host:port, with an IPv6 address in brackets.
func (t Target) String() string {
	host := t.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(t.Port)
}

// same tells whether both are the same server. The case of names does not matter, and addresses have only one form.
func (t Target) same(other Target) bool {
	return t.Port == other.Port && strings.EqualFold(t.Host, other.Host)
}

// parseTarget reads `host`, `host:port` or `[IPv6]:port`.
func parseTarget(text string) (Target, error) {
	target, problem := readTarget(text)
	if problem == "" {
		return target, nil
	}
	return Target{}, fmt.Errorf("%s is not a target: %s; give host, host:port or [IPv6]:port", shown(text), problem)
}

// readTarget returns a target, or what is wrong.
func readTarget(text string) (Target, string) {
	if len(text) > maxTarget {
		return Target{}, fmt.Sprintf("it has %d bytes, but a target has at most %d", len(text), maxTarget)
	}
	if scheme, _, found := strings.Cut(text, "://"); found {
		return Target{}, "leave out " + shown(scheme+"://")
	}
	host, port, hasPort := text, "", false
	if rest, found := strings.CutPrefix(text, "["); found {
		inside, after, closed := strings.Cut(rest, "]")
		if !closed {
			return Target{}, "the bracket is not closed"
		}
		address, ok := parseIPv6(inside)
		switch {
		case !ok:
			return Target{}, shown(inside) + " is not an IPv6 address"
		case !isOneHost(address):
			return Target{}, notOneHost(address)
		}
		host = address.String()
		if port, hasPort = strings.CutPrefix(after, ":"); after != "" && !hasPort {
			return Target{}, "only ':' and a port can follow the bracket"
		}
	} else if _, ok := parseIPv6(text); ok {
		return Target{}, "write an IPv6 address in brackets, [" + text + "]"
	} else {
		host, port, hasPort = strings.Cut(text, ":")
		if problem := checkName(host); problem != "" {
			return Target{}, problem
		}
	}
	number := defaultPort
	if hasPort {
		var ok bool
		if number, ok = readPort(port); !ok {
			return Target{}, "port " + shown(port) + " is not a number from 1 to 65535"
		}
	}
	return Target{host, number}, ""
}

// parseIPv6 returns an address in canonical form. netip is stricter than most parsers, but knows zones.
func parseIPv6(text string) (netip.Addr, bool) {
	address, err := netip.ParseAddr(text)
	if err != nil || !address.Is6() || strings.Contains(text, "%") || hasLongGroup(text) {
		return netip.Addr{}, false
	}
	return address.Unmap(), true
}

// hasLongGroup tells whether a group has more than four digits: early versions of netip accept leading zeros.
func hasLongGroup(address string) bool {
	for group := range strings.SplitSeq(address, ":") {
		if len(group) > 4 && !strings.Contains(group, ".") {
			return true
		}
	}
	return false
}

// isOneHost tells whether an address can be that of a single host. 0.0.0.0/8 is never a destination (RFC 1122 section
// 3.2.1.3), and clients take 0.0.0.0 and :: for their own machine.
func isOneHost(address netip.Addr) bool {
	if address.Is4() {
		bytes := address.As4()
		return bytes[0] != 0 && !address.IsMulticast() && bytes != [4]byte{255, 255, 255, 255}
	}
	return !address.IsUnspecified() && !address.IsMulticast()
}

func notOneHost(address netip.Addr) string {
	return address.String() + " is not the address of a single host"
}

// checkName says what is wrong with a DNS name or an IPv4 address. A name whose last label is a number would be taken for
// an IPv4 address by some resolvers (RFC 1123 section 2.1), so it must be one.
func checkName(name string) string {
	if name == "" {
		return "the host is missing"
	}
	for _, c := range strings.ToValidUTF8(name, "\ufffd") {
		if !isLetterOrDigit(c) && c != '-' && c != '_' && c != '.' {
			return "a host name cannot contain " + shown(string(c))
		}
	}
	if len(name) > maxName {
		return fmt.Sprintf("a host name has at most %d characters, this one has %d", maxName, len(name))
	}
	labels := strings.Split(name, ".")
	if last := labels[len(labels)-1]; last != "" && isNumber(last) {
		address, err := netip.ParseAddr(name)
		switch {
		case err != nil || !address.Is4():
			return shown(name) + " is not an IPv4 address"
		case !isOneHost(address):
			return notOneHost(address)
		}
		return ""
	}
	for _, label := range labels {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return shown(label) + " is not a valid host name label (1 to 63 letters, digits, underscores and inner hyphens)"
		}
	}
	return ""
}

func isLetterOrDigit(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// isNumber tells whether a label is all digits, or 0x and hexadecimal digits.
func isNumber(label string) bool {
	digits := "0123456789"
	if lower := strings.ToLower(label); strings.HasPrefix(lower, "0x") {
		label, digits = lower[2:], digits+"abcdef"
	}
	return strings.Trim(label, digits) == ""
}

func readPort(port string) (int, bool) {
	number, err := strconv.ParseUint(port, 10, 16)
	return int(number), err == nil && port[0] != '0'
}

// shown is a value in quotes for an error: at most 60 characters, control characters escaped.
func shown(value string) string {
	const most = 60
	var text strings.Builder
	length := 0
	for _, c := range strings.ToValidUTF8(value, "\ufffd") {
		piece := string(c)
		switch {
		case c == '\t' || c == '\n' || c == '\r':
			piece = strings.Trim(strconv.QuoteRune(c), "'")
		case unicode.IsControl(c) || c > 0xffff:
			piece = fmt.Sprintf(`\u{%x}`, c)
		}
		if length += utf8.RuneCountInString(piece); length > most {
			text.WriteString("...")
			break
		}
		text.WriteString(piece)
	}
	return "'" + text.String() + "'"
}
