package redirect

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// The test vectors that docs/protocol.md gives to authors of connectors.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../../../../docs/protocol-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Messages []struct {
			Name, Message, Hex string
			Target             any
		}
		Attempts []struct {
			Origin  string
			Errors  [][2]any
			Outcome string
		}
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors.Messages) < 100 || len(vectors.Attempts) < 20 {
		t.Fatalf("only %d messages and %d attempts", len(vectors.Messages), len(vectors.Attempts))
	}
	for _, vector := range vectors.Messages {
		message := vector.Message
		if vector.Hex != "" {
			bytes, err := hex.DecodeString(vector.Hex)
			if err != nil {
				t.Fatal(err)
			}
			message = string(bytes)
		}
		target, err := From("nowhere:1").Refused(Code, message)
		switch want := vector.Target.(type) {
		case nil:
			if target != nil || err != nil {
				t.Errorf("%s: got %v, %v", vector.Name, target, err)
			}
		case string:
			if outcome(target, err) != want {
				t.Errorf("%s: got %v, %v", vector.Name, target, err)
			}
		case map[string]any:
			if err != nil || target == nil || target.Host != want["host"] || float64(target.Port) != want["port"] {
				t.Errorf("%s: got %v, %v", vector.Name, target, err)
			}
		}
	}
	for _, vector := range vectors.Attempts {
		follow, got := From(vector.Origin), ""
		for _, refusal := range vector.Errors {
			got = outcome(follow.Refused(uint16(refusal[0].(float64)), refusal[1].(string)))
		}
		if got != vector.Outcome {
			t.Errorf("%s %v: got %s", vector.Origin, vector.Errors, got)
		}
	}
}

func outcome(target *Target, err error) string {
	var stop Stop
	switch {
	case errors.As(err, &stop):
		return string(stop.Reason)
	case target == nil:
		return "ordinary"
	}
	return target.String()
}

func TestErrors(t *testing.T) {
	for message, want := range map[string]string{
		"|t|db1":        "Redirect loop: db1:3306 -> db1:3306",
		"|t|db2:0":      "Server 'db1:3306' sent an invalid redirect target: 'db2:0' is not a target: port '0' is not a number from 1 to 65535; give host, host:port or [IPv6]:port",
		"|t|a\x1bb":     `'a\u{1b}b' is not a target: a host name cannot contain '\u{1b}'`,
		"|t|::1":        "'::1' is not a target: write an IPv6 address in brackets, [::1]",
		"|t|mysql://db": "'mysql://db' is not a target: leave out 'mysql://'",
		"|t|[::]":       ":: is not the address of a single host",
	} {
		_, err := From("db1:3306").Refused(Code, message)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", message, err)
		}
	}
}

// The columns: no TLS, TLS, TLS and verified; each first for a program that does not ask for verification.
func TestTrust(t *testing.T) {
	peer := func(tls, asked, verified bool) Peer {
		return Peer{Greeted: true, TLS: tls, Asked: asked, Verified: verified}
	}
	peers := []Peer{
		peer(false, false, false), peer(true, false, false), peer(true, false, true),
		peer(false, true, false), peer(true, true, false), peer(true, true, true),
	}
	for value, follows := range map[string][6]bool{
		"never": {}, "0": {}, "no": {}, "": {},
		"verified": {2: true, 5: true}, "Verified": {2: true, 5: true},
		"auto": {true, true, true, false, false, true}, "1": {true, true, true, false, false, true},
		"ALWAYS": {true, true, true, true, true, true},
	} {
		for i, peer := range peers {
			if objection := TrustFrom("X", value).Objection(peer); (objection == "") != follows[i] {
				t.Errorf("%q %+v: %s", value, peer, objection)
			}
		}
		early := Peer{TLS: true, Verified: true}
		if TrustFrom("X", value).Objection(early) == "" {
			t.Errorf("%q: an error in place of the greeting is followed", value)
		}
	}
	got := TrustFrom("X", "no\x1b").Objection(peers[0])
	if want := `X is 'no\u{1b}'; give never, verified, auto or always`; got != want {
		t.Errorf("got %s", got)
	}
}
