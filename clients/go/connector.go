// Package instantfailover is the MySQL driver github.com/go-sql-driver/mysql, following the redirects of MariaDB servers
// that have the plugin instant_failover. A program changes one line:
//
//	import _ "instantfailover"
//
//	db, err := sql.Open("instant-failover", "app:secret@tcp(db1:3306)/demo")
//
// or, with a [mysql.Config], calls [NewConnector] instead of the driver's.
//
// The DSN parameter (or entry of Config.Params) instantFailover, or else the environment variable INSTANT_FAILOVER_FOLLOW,
// says which servers may redirect: never, verified (only a server whose certificate was verified), auto (the default: as
// verified wherever the program asks for verification, and otherwise any) or always.
package instantfailover

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"instantfailover/internal/redirect"
)

const (
	driverName  = "instant-failover"
	parameter   = "instantFailover"
	environment = "INSTANT_FAILOVER_FOLLOW"
)

func init() {
	sql.Register(driverName, Driver{})
}

// Driver is what sql.Open("instant-failover", dsn) uses. A DSN is that of the MySQL driver, with the parameter
// instantFailover added.
type Driver struct{}

// Open connects once. database/sql calls OpenConnector instead.
func (d Driver) Open(dsn string) (driver.Conn, error) {
	connector, err := d.OpenConnector(dsn)
	if err != nil {
		return nil, err
	}
	return connector.Connect(context.Background())
}

// OpenConnector reads the DSN.
func (Driver) OpenConnector(dsn string) (driver.Connector, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	return NewConnector(cfg)
}

type connector struct {
	cfg   *mysql.Config
	trust redirect.Trust
}

// NewConnector is the MySQL driver's NewConnector, and follows redirects. Every connection begins at cfg.Addr.
//
// cfg.DialFunc is used for every server, with the network "tcp" for those that a redirect names.
func NewConnector(cfg *mysql.Config) (driver.Connector, error) {
	if cfg.DialFunc == nil && cfg.Net != "" && cfg.Net != "unix" && !strings.HasPrefix(cfg.Net, "tcp") {
		return nil, fmt.Errorf(
			"%s: network %q has a dial function of its own, which cannot reach the target of a redirect; set Config.DialFunc",
			driverName, cfg.Net)
	}
	cfg = cfg.Clone()
	setting, value := environment, os.Getenv(environment)
	if option, found := cfg.Params[parameter]; found {
		setting, value = parameter, option
		delete(cfg.Params, parameter)
	} else if value == "" {
		value = "auto"
	}
	if err := readTLSConfig(cfg); err != nil {
		return nil, err
	}
	if _, err := mysql.NewConnector(cfg); err != nil {
		return nil, err
	}
	return &connector{cfg, redirect.TrustFrom(setting, value)}, nil
}

// readTLSConfig sets cfg.TLS, without a ServerName that is the host of the address: ParseDSN puts it there, but each server's
// certificate must be checked against its own name. Any other ServerName was chosen by the program, and remains.
func readTLSConfig(cfg *mysql.Config) error {
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		host = cfg.Addr
	}
	if cfg.TLS == nil && cfg.TLSConfig != "" {
		// Only ParseDSN gives what was registered under a name.
		host = "host.invalid"
		named, err := mysql.ParseDSN((&mysql.Config{Addr: host + ":3306", TLSConfig: cfg.TLSConfig}).FormatDSN())
		if err != nil {
			return err
		}
		cfg.TLS = named.TLS
		cfg.AllowFallbackToPlaintext = cfg.AllowFallbackToPlaintext || named.AllowFallbackToPlaintext
	}
	if cfg.TLS != nil && cfg.TLS.ServerName == host {
		cfg.TLS.ServerName = ""
	}
	return nil
}

// Driver returns a [Driver].
func (*connector) Driver() driver.Driver { return Driver{} }

// Connect connects to the server of the configuration, and to where it sends the client. ctx limits the whole chain;
// cfg.Timeout limits the time for dialling all its servers.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	attempt := &attempt{connector: c, dialTime: c.cfg.Timeout}
	conn, err := attempt.connect(ctx, nil)
	for err != nil {
		target, stop := attempt.next(err)
		if stop != nil {
			return nil, stop
		}
		conn, err = attempt.connect(ctx, target)
	}
	return conn, nil
}

// An attempt is one call of Connect.
type attempt struct {
	*connector
	follow *redirect.Follow
	// underTLS: a server on the way had TLS, so every later one must have it.
	underTLS bool
	// dialTime is what is left of cfg.Timeout.
	dialTime time.Duration

	// What is known about the server that is being tried.

	wire *watchedConn
	peer redirect.Peer
}

// connect logs in to one server: to that of the configuration if target is nil.
func (a *attempt) connect(ctx context.Context, target *redirect.Target) (driver.Conn, error) {
	cfg := a.cfg.Clone()
	if target != nil {
		if !strings.HasPrefix(cfg.Net, "tcp") {
			cfg.Net = "tcp"
		}
		cfg.Addr = target.String()
		cfg.AllowFallbackToPlaintext = cfg.AllowFallbackToPlaintext && !a.underTLS
	}
	cfg.Timeout = a.dialTime
	a.watchDial(cfg, target != nil)
	a.watchTLS(cfg)
	one, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return one.Connect(ctx)
}

// watchDial makes the driver's connection tell what passes through it.
func (a *attempt) watchDial(cfg *mysql.Config, redirected bool) {
	a.wire = nil
	dial := cfg.DialFunc
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if redirected {
			// Even if the program's BeforeConnect has set another address.
			network, addr = cfg.Net, cfg.Addr
		} else {
			a.follow = redirect.From(addr)
		}
		start := time.Now()
		conn, err := dial(ctx, network, addr)
		if a.dialTime > 0 {
			a.dialTime = max(a.dialTime-time.Since(start), 1)
		}
		if err != nil {
			return nil, err
		}
		a.wire = watch(conn, a.underTLS)
		return a.wire.forDriver(), nil
	}
}

// watchTLS makes the driver report that a certificate was verified. The program's own VerifyPeerCertificate or
// VerifyConnection is a verification, too.
func (a *attempt) watchTLS(cfg *mysql.Config) {
	a.peer = redirect.Peer{}
	if cfg.TLS == nil {
		return
	}
	verify := cfg.TLS.VerifyConnection
	asked := !cfg.TLS.InsecureSkipVerify || verify != nil || cfg.TLS.VerifyPeerCertificate != nil
	a.peer.Asked = asked
	cfg.TLS.VerifyConnection = func(state tls.ConnectionState) error {
		if verify != nil {
			if err := verify(state); err != nil {
				return err
			}
		}
		a.peer.TLS, a.peer.Verified = true, asked
		return nil
	}
}

// next says where to go after an error, or what error to give the program.
func (a *attempt) next(err error) (*redirect.Target, error) {
	if a.underTLS && (errors.Is(err, mysql.ErrNoTLS) || a.wire != nil && a.wire.refused) {
		return nil, fmt.Errorf(
			"%w: redirected from a server with TLS to one without; disable TLS to allow this (redirected: %v)",
			mysql.ErrNoTLS, a.follow)
	}
	var refusal *mysql.MySQLError
	if !errors.As(err, &refusal) || a.wire == nil || a.wire.inSession() || a.trust.IsNever() {
		return nil, a.explain(err)
	}
	if redirect.IsRedirect(refusal.Number, refusal.Message) {
		peer := a.peer
		peer.Greeted = a.wire.answered
		if a.wire.tls && !peer.TLS {
			// BeforeConnect replaced cfg.TLS: what it verifies is unknown.
			peer.TLS, peer.Asked = true, true
		}
		if objection := a.trust.Objection(peer); objection != "" {
			return nil, a.explain(withNote(refusal, "not followed: "+objection))
		}
		a.underTLS = a.underTLS || peer.TLS
	}
	target, stop := a.follow.Refused(refusal.Number, refusal.Message)
	if stop != nil {
		return nil, &mysql.MySQLError{Number: redirect.Code, SQLState: refusal.SQLState, Message: stop.Error()}
	}
	if target == nil {
		return nil, a.explain(err)
	}
	return target, nil
}

// explain adds the servers on the way to an error: the program knows only the first.
func (a *attempt) explain(err error) error {
	if a.follow == nil || !a.follow.WasRedirected() {
		return err
	}
	note := "redirected: " + a.follow.String()
	var refusal *mysql.MySQLError
	if errors.As(err, &refusal) {
		return withNote(refusal, note)
	}
	return fmt.Errorf("%w (%s)", err, note)
}

func withNote(refusal *mysql.MySQLError, note string) *mysql.MySQLError {
	noted := *refusal
	noted.Message += " (" + note + ")"
	return &noted
}
