package redirect

import (
	"fmt"
	"strings"
)

// A Trust says which servers may redirect: the value of a setting.
type Trust struct {
	// setting is the name of the setting that the value comes from.
	setting string
	value   string
}

const (
	never    = "never"
	verified = "verified"
	auto     = "auto"
	always   = "always"
)

// TrustFrom reads the value of a setting. An unknown value trusts no server, and Objection says why.
func TrustFrom(setting, value string) Trust {
	switch lower := strings.ToLower(value); lower {
	case "0":
		value = never
	case "1":
		value = auto
	case never, verified, auto, always:
		value = lower
	}
	return Trust{setting, value}
}

// IsNever tells whether the program turned following off. It then gets the server's error as it is.
func (t Trust) IsNever() bool { return t.value == never }

// A Peer is what a client knows about a server when it receives the redirect.
type Peer struct {
	// Greeted: the redirect is not the server's first packet. One in the place of the greeting comes before TLS.
	Greeted bool
	// TLS: the redirect came through TLS.
	TLS bool
	// Asked: the program asks for certificates to be verified.
	Asked bool
	// Verified: the certificate has been verified.
	Verified bool
}

// Objection says why a redirect from this server is not followed, and what to do; it is empty if the redirect is followed.
func (t Trust) Objection(peer Peer) string {
	proven := peer.TLS && peer.Verified
	switch t.value {
	case never:
		return fmt.Sprintf("%s=%s", t.setting, t.value)
	case verified, auto, always:
	default:
		return fmt.Sprintf("%s is %s; give never, verified, auto or always", t.setting, shown(t.value))
	}
	if !peer.Greeted {
		return "the server sent it in place of its greeting, before TLS; anyone on the network can do that"
	}
	if t.value == always || proven || t.value == auto && !peer.Asked {
		return ""
	}
	reason := "the connection has no TLS"
	if peer.TLS {
		reason = "the server's certificate is not verified"
	}
	return fmt.Sprintf("%s (%s=%s); set tls=true or your own TLS config, or %s=%s", reason, t.setting, t.value, t.setting, always)
}
